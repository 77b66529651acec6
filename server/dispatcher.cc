#include "server/dispatcher.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <thread>
#include <utility>

#include <absl/container/flat_hash_map.h>

#include "engine/base/check.h"
#include "server/convert.h"
#include "server/dispatcher_mailbox.h"

namespace moelight {
namespace {

// With the engine's own destruction this stays below the 5 s that a stop may take.
constexpr std::chrono::seconds kStopPatience{4};

// Rows that run together after one crash. The square root of the usual number in flight: about as
// many groups to try as rows in the group that crashes again.
constexpr int64_t kSuspectsTogether = 32;

// New rows are fetched when this share of the places is free: a read of a chunk and a commit serve
// many rows, and a job that is more urgent than those in the engine does not wait long for a place.
constexpr int64_t kRefillFraction = 32;

// Jobs of which is kept at hand what their rows have in common.
constexpr size_t kMaxKnownJobs = 64;

bool WasCancelled(const GenerateResult& result) {
  if (absl::IsCancelled(result.status)) return true;
  return std::any_of(result.choices.begin(), result.choices.end(), [](const Choice& choice) {
    return choice.finish_reason == FinishReason::kCancelled;
  });
}

class RowDispatcher : public Dispatcher {
 public:
  RowDispatcher(const DispatcherOptions& options, JobStore& store, Engine& engine, Logger& logger)
      : options_(options),
        store_(store),
        engine_(engine),
        logger_(logger),
        mailbox_(std::make_shared<DispatcherMailbox>()) {
    CHECK_GT(options.max_rows_in_flight, 0);
    subscription_ = store_.Subscribe("", [mailbox = mailbox_]() { mailbox->PostStoreChanged(); });
    mailbox_->PostStoreChanged();  // what is there from earlier
    thread_ = std::thread([this]() { Run(); });
  }

  ~RowDispatcher() override {
    store_.Unsubscribe(subscription_);
    mailbox_->PostStop();
    thread_.join();
  }

  int64_t num_rows_in_flight() const override { return num_in_flight_; }
  void Drain(std::function<void()> drained) override { mailbox_->PostDrain(std::move(drained)); }

 private:
  struct RunningRow {
    RequestId id = 0;
    std::string custom_id;
    bool job_is_ending = false;  // and the engine was told to cancel
  };
  // What the rows of a job have in common.
  struct JobTraits {
    v1::SamplingParams default_sampling;
    RequestGroup group;
  };

  void Run();
  void Stop();
  void Handle(DispatcherEvent& event);
  void Handle(RowsFetched& fetched);
  void Handle(RowsMarked& marked);
  void Handle(RowFinished& finished);
  void Handle(RowRecorded& recorded);

  void CancelEndingJobs();
  void Fetch();
  void Mark();
  void SubmitReady();
  // False if the engine is full and the row must wait.
  bool SubmitRow(const PendingRow& row);
  const JobTraits& TraitsOf(const std::string& job_id);
  void Record(const RowKey& key, v1::BatchResult result);
  void RecordError(const RowKey& key, const std::string& custom_id, const absl::Status& error);

  int64_t NumTaken() const {
    return static_cast<int64_t>(running_.size() + ready_.size()) + num_marking_;
  }
  int64_t PlacesFor(int32_t crashes) const;

  const DispatcherOptions options_;
  JobStore& store_;
  Engine& engine_;
  Logger& logger_;
  const std::shared_ptr<DispatcherMailbox> mailbox_;
  JobStore::SubscriptionId subscription_ = 0;
  std::atomic<int64_t> num_in_flight_ = 0;

  // The rest belongs to the thread. A row moves from fetched_ (on loan from the store) over a mark
  // (num_marking_) to ready_ (durably in flight) and running_ (in the engine).
  std::deque<PendingRow> fetched_;
  int64_t num_marking_ = 0;
  std::deque<PendingRow> ready_;
  std::map<RowKey, RunningRow> running_;
  int64_t num_unrecorded_ = 0;    // results on their way to the disk
  int32_t crashes_of_taken_ = 0;  // all rows past fetched_ have this many
  bool fetching_ = false;
  bool may_have_rows_ = false;  // the store changed since a fetch came back empty
  bool engine_full_ = false;
  bool draining_ = false;
  std::function<void()> drained_;
  absl::flat_hash_map<std::string, JobTraits> traits_;  // by job

  std::thread thread_;
};

void RowDispatcher::Run() {
  while (true) {
    DispatcherMail mail = mailbox_->Wait();
    for (DispatcherEvent& event : mail.events) Handle(event);
    if (mail.stop) break;
    if (mail.drained) {
      draining_ = true;
      drained_ = std::move(mail.drained);
    }
    if (mail.engine_has_room) engine_full_ = false;
    if (mail.store_changed) {
      may_have_rows_ = true;
      CancelEndingJobs();
    }
    if (!draining_) {
      Fetch();
      Mark();
      SubmitReady();
    }
    num_in_flight_ = NumTaken();
    if (drained_ && running_.empty() && num_unrecorded_ == 0) std::exchange(drained_, nullptr)();
  }
  Stop();
}

void RowDispatcher::Stop() {
  draining_ = true;
  for (const auto& [key, row] : running_) engine_.Cancel(row.id);
  const auto deadline = std::chrono::steady_clock::now() + kStopPatience;
  while (!running_.empty() || num_unrecorded_ > 0) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= std::chrono::nanoseconds(0)) {
      logger_.Warning("dispatcher_stop_impatient", {{"rows_in_engine", running_.size()}});
      return;
    }
    DispatcherMail mail = mailbox_->WaitFor(left);
    for (DispatcherEvent& event : mail.events) Handle(event);
  }
}

void RowDispatcher::Handle(DispatcherEvent& event) {
  std::visit([this](auto& kind) { Handle(kind); }, event);
}

void RowDispatcher::Handle(RowsFetched& fetched) {
  fetching_ = false;
  if (!fetched.rows.ok()) {
    logger_.Error("fetch_failed", {{"reason", fetched.rows.status().ToString()}});
    return;
  }
  // Something was there, so more may be.
  if (!fetched.rows->empty()) may_have_rows_ = true;
  for (PendingRow& row : *fetched.rows) fetched_.push_back(std::move(row));
}

void RowDispatcher::Handle(RowsMarked& marked) {
  num_marking_ = 0;
  if (!marked.rows.ok()) {
    logger_.Error("mark_failed", {{"reason", marked.rows.status().ToString()}});
    return;
  }
  for (PendingRow& row : *marked.rows) ready_.push_back(std::move(row));
  // A job that ended between mark and answer was not among those looked at before.
  CancelEndingJobs();
}

void RowDispatcher::Handle(RowFinished& finished) {
  engine_full_ = false;
  const auto found = running_.find(finished.key);
  CHECK(found != running_.end()) << finished.key.first << " row " << finished.key.second;
  const RunningRow row = std::move(found->second);
  running_.erase(found);
  v1::BatchResult result =
      ToBatchResult(finished.key.second, row.custom_id, finished.result, engine_);
  if (WasCancelled(finished.result)) {
    // Not by its job: the engine or we are stopping. The row stays in flight and runs again after
    // the next start.
    if (!row.job_is_ending) return;
    result.clear_choices();
    *result.mutable_error() = ToRpcStatus(absl::CancelledError("the job was cancelled"));
  }
  Record(finished.key, std::move(result));
}

void RowDispatcher::Handle(RowRecorded& recorded) {
  --num_unrecorded_;
  if (recorded.status.ok()) return;
  logger_.Error("record_failed", {{"job", recorded.key.first},
                                  {"row", recorded.key.second},
                                  {"reason", recorded.status.ToString()}});
}

void RowDispatcher::CancelEndingJobs() {
  for (const std::string& job_id : store_.EndingJobs()) {
    for (auto it = running_.lower_bound({job_id, 0});
         it != running_.end() && it->first.first == job_id; ++it) {
      if (!std::exchange(it->second.job_is_ending, true)) engine_.Cancel(it->second.id);
    }
    std::deque<PendingRow> kept;
    for (PendingRow& row : ready_) {
      if (row.job_id == job_id) {
        RecordError({row.job_id, row.row}, row.request.custom_id(),
                    absl::CancelledError("the job was cancelled"));
      } else {
        kept.push_back(std::move(row));
      }
    }
    ready_ = std::move(kept);
  }
}

void RowDispatcher::Fetch() {
  if (fetching_ || !may_have_rows_ || !fetched_.empty() || num_marking_ > 0) return;
  const int64_t places = options_.max_rows_in_flight - NumTaken();
  const int64_t worth_it = std::max<int64_t>(1, options_.max_rows_in_flight / kRefillFraction);
  if (places < worth_it && NumTaken() > 0) return;
  fetching_ = true;
  may_have_rows_ = false;
  store_.NextPending(places, [mailbox = mailbox_](absl::StatusOr<std::vector<PendingRow>> rows) {
    mailbox->Post(RowsFetched{std::move(rows)});
  });
}

// Rows with different numbers of crashes are never in flight together.
int64_t RowDispatcher::PlacesFor(int32_t crashes) const {
  const int64_t together = crashes == 0   ? options_.max_rows_in_flight
                           : crashes == 1 ? std::min(kSuspectsTogether, options_.max_rows_in_flight)
                                          : 1;
  const int64_t taken = NumTaken();
  if (taken == 0) return together;
  return crashes == crashes_of_taken_ ? std::max<int64_t>(0, together - taken) : 0;
}

void RowDispatcher::Mark() {
  if (fetched_.empty() || num_marking_ > 0) return;
  const int32_t crashes = fetched_.front().crashes;
  const int64_t places = PlacesFor(crashes);
  std::vector<PendingRow> rows;
  while (!fetched_.empty() && static_cast<int64_t>(rows.size()) < places &&
         fetched_.front().crashes == crashes) {
    rows.push_back(std::move(fetched_.front()));
    fetched_.pop_front();
  }
  if (rows.empty()) return;
  num_marking_ = static_cast<int64_t>(rows.size());
  crashes_of_taken_ = crashes;
  store_.MarkInFlight(std::move(rows),
                      [mailbox = mailbox_](absl::StatusOr<std::vector<PendingRow>> marked) {
                        mailbox->Post(RowsMarked{std::move(marked)});
                      });
}

void RowDispatcher::SubmitReady() {
  while (!engine_full_ && !ready_.empty()) {
    if (SubmitRow(ready_.front())) {
      ready_.pop_front();
    } else {
      engine_full_ = true;
      engine_.NotifyWhenRoom([mailbox = mailbox_]() { mailbox->PostRoom(); });
    }
  }
}

bool RowDispatcher::SubmitRow(const PendingRow& row) {
  const RowKey key{row.job_id, row.row};
  const std::string& custom_id = row.request.custom_id();
  if (!row.status.ok()) {
    RecordError(key, custom_id, row.status);
    return true;
  }
  const JobTraits& job = TraitsOf(row.job_id);
  absl::StatusOr<GenerateRequest> request = ToGenerateRequest(
      row.request.prompt(), MergeSampling(row.request.sampling(), job.default_sampling),
      engine_.model().vocab_size);
  if (!request.ok()) {
    RecordError(key, custom_id, request.status());
    return true;
  }
  request->group = job.group;
  auto sink = std::make_unique<RowSink>(key, mailbox_);
  const absl::StatusOr<RequestId> id = engine_.Submit(*std::move(request), sink.get());
  if (id.ok()) {
    sink.release();  // deletes itself in OnFinish
    running_[key] = {*id, custom_id, false};
    return true;
  }
  if (absl::IsResourceExhausted(id.status())) return false;
  // Cancelled: the engine is stopping. The row stays in flight and runs again after the next start.
  if (!absl::IsCancelled(id.status())) RecordError(key, custom_id, id.status());
  return true;
}

const RowDispatcher::JobTraits& RowDispatcher::TraitsOf(const std::string& job_id) {
  const auto known = traits_.find(job_id);
  if (known != traits_.end()) return known->second;
  if (traits_.size() >= kMaxKnownJobs) traits_.clear();
  JobTraits& traits = traits_[job_id];
  // A job is not removed while it has rows in flight.
  if (absl::StatusOr<v1::BatchJob> job = store_.Get(job_id); job.ok()) {
    traits.group = {job->client(), static_cast<double>(options_.client_weights.of(job->client())),
                    job->priority(), job_id};
    traits.default_sampling = std::move(*job->mutable_default_sampling());
  }
  return traits;
}

void RowDispatcher::Record(const RowKey& key, v1::BatchResult result) {
  ++num_unrecorded_;
  store_.RecordResult(key.first, std::move(result),
                      [mailbox = mailbox_, key](const absl::Status& status) {
                        mailbox->Post(RowRecorded{key, status});
                      });
}

void RowDispatcher::RecordError(const RowKey& key, const std::string& custom_id,
                                const absl::Status& error) {
  v1::BatchResult result;
  result.set_row(key.second);
  result.set_custom_id(custom_id);
  *result.mutable_error() = ToRpcStatus(error);
  Record(key, std::move(result));
}

}  // namespace

std::unique_ptr<Dispatcher> Dispatcher::Start(const DispatcherOptions& options, JobStore& store,
                                              Engine& engine, Logger& logger) {
  return std::make_unique<RowDispatcher>(options, store, engine, logger);
}

}  // namespace moelight
