#include "server/job_store.h"

#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/time.h>

#include "engine/base/status_macros.h"
#include "server/crash_marker.h"
#include "server/store/folder_lock.h"
#include "server/store/job_board.h"
#include "server/store/ledger.h"
#include "server/store/paged_reads.h"
#include "server/store/read_thread.h"
#include "server/store/row_chunk.h"
#include "server/store/schema.h"
#include "server/store/store_errors.h"
#include "server/store/subscriptions.h"
#include "server/store/writer.h"

namespace moelight {
namespace {

// Pages of results that may wait for the disk; each is a call of a client that waits for it.
constexpr size_t kMaxQueuedReads = 1024;
// NextPending is called by one dispatcher, one call at a time; the second place is for the moment
// in which an answer's callback asks again.
constexpr size_t kMaxQueuedPendingReads = 2;
// Chunk offsets are 32 bits; far below that.
constexpr int64_t kLargestRowBytes = 256 << 20;

absl::Status CheckLimits(const JobStoreLimits& limits) {
  if (limits.rows_per_job > kMaxRowsPerJob) {
    return absl::InvalidArgumentError(absl::StrCat("server.limits.rows_per_job: is ",
                                                   limits.rows_per_job, ", must be at most ",
                                                   kMaxRowsPerJob));
  }
  if (limits.row_bytes > kLargestRowBytes) {
    return absl::InvalidArgumentError(absl::StrCat("server.limits.row_bytes: is ", limits.row_bytes,
                                                   ", must be at most ", kLargestRowBytes));
  }
  return absl::OkStatus();
}

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  if (std::filesystem::create_directories(path, error)) {
    // Prompts and answers are nobody else's business.
    std::filesystem::permissions(path, std::filesystem::perms::owner_all, error);
  }
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", error.message()));
}

// Serializes rows on the caller's thread, so that the writer only copies bytes. `*bytes` gets what
// they hold.
std::vector<EncodedRow> EncodeRows(int64_t first_row, const std::vector<AppendRow>& rows,
                                   int64_t* bytes) {
  std::vector<EncodedRow> encoded(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    encoded[i].request = SerializeDeterministic(rows[i].request);
    encoded[i].prompt_tokens = rows[i].estimated_prompt_tokens;
    encoded[i].output_tokens = rows[i].estimated_output_tokens;
    if (rows[i].refusal.code() != 0) {
      v1::BatchResult result;
      result.set_row(first_row + static_cast<int64_t>(i));
      result.set_custom_id(rows[i].request.custom_id());
      *result.mutable_error() = rows[i].refusal;
      encoded[i].refusal = result.SerializeAsString();
    }
    *bytes += static_cast<int64_t>(sizeof(EncodedRow) + encoded[i].request.size() +
                                   encoded[i].refusal.size());
  }
  return encoded;
}

class DiskJobStore : public JobStore {
 public:
  DiskJobStore(JobStoreOptions options, Logger& logger)
      : options_(std::move(options)), logger_(logger), board_(options_.client_weights) {}

  absl::Status Init();

  void Create(const v1::CreateBatchJobRequest& request, StoreDone<v1::BatchJob> done) override {
    const int64_t bytes = static_cast<int64_t>(request.ByteSizeLong());
    Submit<v1::BatchJob>(
        bytes, [request](Ledger& ledger) { return ledger.Create(request); }, std::move(done));
  }

  void Append(const std::string& job_id, int64_t first_row, std::vector<AppendRow> rows,
              StoreDone<AppendOutcome> done) override {
    int64_t bytes = 0;
    auto encoded =
        std::make_shared<const std::vector<EncodedRow>>(EncodeRows(first_row, rows, &bytes));
    rows.clear();
    Submit<AppendOutcome>(
        bytes,
        [job_id, first_row, encoded](Ledger& ledger) {
          return ledger.Append(job_id, first_row, *encoded);
        },
        std::move(done));
  }

  void Seal(const std::string& job_id, int64_t expected_rows, double tokens_per_s,
            StoreDone<v1::BatchJob> done) override {
    Submit<v1::BatchJob>(
        0, [=](Ledger& ledger) { return ledger.Seal(job_id, expected_rows, tokens_per_s); },
        std::move(done));
  }

  void Cancel(const std::string& job_id, StoreDone<v1::BatchJob> done) override {
    Submit<v1::BatchJob>(
        0, [job_id](Ledger& ledger) { return ledger.Cancel(job_id); }, std::move(done));
  }

  void Delete(const std::string& job_id, StoreDone<bool> done) override {
    Submit<bool>(
        0, [job_id](Ledger& ledger) { return ledger.Delete(job_id); }, std::move(done));
  }

  void MarkInFlight(std::vector<PendingRow> rows,
                    StoreDone<std::vector<PendingRow>> done) override {
    auto shared = std::make_shared<std::vector<PendingRow>>(std::move(rows));
    Submit<std::vector<PendingRow>>(
        0,
        [shared](Ledger& ledger) -> absl::StatusOr<std::vector<PendingRow>> {
          RETURN_IF_ERROR(ledger.MarkInFlight(*shared));
          return std::move(*shared);
        },
        std::move(done), Writer::Admission::kAlways);
  }

  void RecordResult(const std::string& job_id, v1::BatchResult result,
                    std::function<void(absl::Status)> done) override {
    auto finished = std::make_shared<FinishedRow>();
    finished->row = result.row();
    finished->error_code = result.error().code();
    finished->prompt_tokens = result.usage().prompt_tokens();
    finished->generated_tokens = result.usage().completion_tokens();
    finished->shared_prompt_tokens = result.usage().shared_prompt_tokens();
    finished->payload = result.SerializeAsString();
    const int64_t bytes = static_cast<int64_t>(finished->payload.size());
    Submit<bool>(
        bytes,
        [job_id, finished](Ledger& ledger) -> absl::StatusOr<bool> {
          RETURN_IF_ERROR(ledger.RecordResult(job_id, *finished));
          return true;
        },
        [done = std::move(done)](const absl::StatusOr<bool>& outcome) { done(outcome.status()); },
        Writer::Admission::kAlways);
  }

  void SetLimits(JobStoreLimits limits) override {
    Submit<bool>(
        0,
        [limits = std::move(limits)](Ledger& ledger) {
          ledger.SetLimits(limits);
          return true;
        },
        [](const absl::StatusOr<bool>& /*set*/) {}, Writer::Admission::kAlways);
  }

  absl::StatusOr<v1::BatchJob> Get(const std::string& job_id) const override {
    ASSIGN_OR_RETURN(const JobSnapshotPtr snapshot, board_.Find(job_id));
    return snapshot->job;
  }
  absl::StatusOr<v1::ListBatchJobsResponse> List(const v1::ListBatchJobsRequest& request,
                                                 const std::string* client) const override {
    return board_.List(request, client);
  }
  std::vector<std::string> EndingJobs() const override { return board_.EndingJobs(); }
  Levels levels() const override {
    Levels levels = board_.levels();
    levels.queued_mutations = writer_->num_queued();
    return levels;
  }

  void ReadResults(const std::string& job_id, int64_t cursor, int64_t max_bytes,
                   StoreDone<ResultsPage> done) override {
    result_reader_->Post([this, job_id, cursor, max_bytes, done = std::move(done)](
                             ReadConnection& connection, const absl::Status& open) {
      if (!open.ok()) return done(open);
      const absl::StatusOr<JobSnapshotPtr> snapshot = board_.Find(job_id);
      if (!snapshot.ok()) return done(snapshot.status());
      done(ReadResultsPage(**snapshot, cursor, max_bytes, connection));
    });
  }

  void NextPending(int64_t max_rows, StoreDone<std::vector<PendingRow>> done) override {
    pending_reader_->Post([this, max_rows, done = std::move(done)](ReadConnection& connection,
                                                                   const absl::Status& open) {
      if (!open.ok()) return done(open);
      absl::StatusOr<std::vector<PendingRow>> rows =
          ReadPendingRows(board_.PlanPending(max_rows), connection);
      // Rows that cannot be read would silently never run.
      if (!rows.ok()) ReportFatal(rows.status());
      done(std::move(rows));
    });
  }

  SubscriptionId Subscribe(const std::string& job_id, std::function<void()> changed) override {
    return subscriptions_.Add(job_id, std::move(changed));
  }
  void Unsubscribe(SubscriptionId id) override { subscriptions_.Remove(id); }

 private:
  template <typename T>
  void Submit(int64_t bytes, typename TypedMutation<T>::Run run, StoreDone<T> done,
              Writer::Admission admission = Writer::Admission::kBounded) {
    writer_->Submit(std::make_unique<TypedMutation<T>>(bytes, std::move(run), std::move(done)),
                    admission);
  }
  void ReportFatal(const absl::Status& reason) {
    std::call_once(fatal_once_, [this, &reason]() {
      if (options_.on_fatal) options_.on_fatal(reason);
    });
  }

  const JobStoreOptions options_;
  Logger& logger_;
  std::once_flag fatal_once_;
  JobBoard board_;
  Subscriptions subscriptions_;
  // In this order: readers go before the writer's connection, which closes the WAL; the lock goes
  // last.
  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<ReadThread> result_reader_;
  std::unique_ptr<ReadThread> pending_reader_;
};

absl::Status DiskJobStore::Init() {
  RETURN_IF_ERROR(CheckLimits(options_.limits));
  RETURN_IF_ERROR(MakeFolder(options_.path));
  ASSIGN_OR_RETURN(lock_, FolderLock::Acquire(options_.path));
  const std::string path = absl::StrCat(options_.path, "/", kDatabaseName);
  ASSIGN_OR_RETURN(database_, OpenWriter(path, options_.vfs));

  // The marker goes after the crash was counted; if we die between, its identity, which is stored
  // with the count, keeps it from being counted again.
  ASSIGN_OR_RETURN(const int64_t crash_id, FindCrashMarker(options_.path));
  LedgerOptions ledger_options;
  ledger_options.limits = options_.limits;
  ledger_options.client_weights = options_.client_weights;
  if (options_.retention_seconds > 0) {
    ledger_options.retention = absl::Seconds(options_.retention_seconds);
  }
  ASSIGN_OR_RETURN(ledger_, Ledger::Open(ledger_options, *database_, crash_id, logger_));
  if (crash_id != 0) RETURN_IF_ERROR(RemoveCrashMarker(options_.path));
  board_.Publish(ledger_->Everything());

  ASSIGN_OR_RETURN(result_reader_, ReadThread::Start(path, options_.vfs, kMaxQueuedReads));
  ASSIGN_OR_RETURN(pending_reader_, ReadThread::Start(path, options_.vfs, kMaxQueuedPendingReads));
  WriterOptions writer_options;
  writer_options.max_queued_mutations = options_.max_queued_mutations;
  writer_options.max_queued_bytes = options_.max_queued_mutation_bytes;
  writer_options.on_commit = options_.on_commit;
  writer_options.on_fatal = [this](const absl::Status& reason) { ReportFatal(reason); };
  writer_ = std::make_unique<Writer>(std::move(writer_options), *database_, *ledger_, board_,
                                     subscriptions_, logger_);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobStore>> JobStore::Open(JobStoreOptions options, Logger& logger) {
  auto store = std::make_unique<DiskJobStore>(std::move(options), logger);
  RETURN_IF_ERROR(store->Init());
  return store;
}

}  // namespace moelight
