// Ledger: the rules of a job's life, applied to the database by the writer.
//
// One call is one mutation inside the transaction that the writer has open. A refused call has
// changed nothing; after a failed statement (Database::failure()) the ledger must not be used any
// more, because memory and disk may differ.
//
// Every row gets exactly one terminal record because a record can only be written for a row that
// has none by construction: at append (refused rows), for a row in `in_flight`, which loses its
// mark in the same transaction, or for rows from `next_row` on while the job is being ended, which
// moves `next_row` in the same transaction.
//
// Threads: the writer's, after Open. Owns: the working copies of all jobs.
#ifndef MOELIGHT_SERVER_STORE_LEDGER_H_
#define MOELIGHT_SERVER_STORE_LEDGER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/random/random.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "engine/base/logger.h"
#include "server/client_weights.h"
#include "server/job_store.h"
#include "server/sqlite.h"
#include "server/store/job_board.h"
#include "server/store/job_entry.h"
#include "server/store/row_chunk.h"
#include "server/store/row_reader.h"
#include "server/store/tables.h"

namespace moelight {

// A finished row as the dispatcher reports it, serialized outside the writer thread.
struct FinishedRow {
  int64_t row = 0;
  int32_t error_code = 0;  // google.rpc.Code
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t shared_prompt_tokens = 0;
  std::string payload;  // serialized BatchResult
};

// What the jobs of one client hold.
struct ClientUse {
  int64_t queued_rows = 0;
  int64_t queued_tokens = 0;
  int64_t stored_bytes = 0;
};

struct LedgerOptions {
  JobStoreLimits limits;
  absl::Duration retention = absl::InfiniteDuration();  // of ended jobs
  ClientWeights client_weights;
};

class Ledger {
 public:
  // Reads the jobs, and counts a crash for the rows that were in flight if `crash_id` is not 0 and
  // was not counted before; see crash_marker.h. Commits.
  static absl::StatusOr<std::unique_ptr<Ledger>> Open(const LedgerOptions& options,
                                                      Database& database, int64_t crash_id,
                                                      Logger& logger);

  absl::Status Begin() { return tables_->Begin(); }
  // Writes the changed jobs, commits and says what to publish.
  absl::StatusOr<BoardChange> Commit();
  // Every job, to publish after Open.
  BoardChange Everything() const;

  // See JobStore.
  void SetLimits(const JobStoreLimits& limits) { options_.limits = limits; }
  absl::StatusOr<v1::BatchJob> Create(const v1::CreateBatchJobRequest& request);
  absl::StatusOr<AppendOutcome> Append(const std::string& job_id, int64_t first_row,
                                       const std::vector<EncodedRow>& rows);
  absl::StatusOr<v1::BatchJob> Seal(const std::string& job_id, int64_t expected_rows,
                                    double tokens_per_s);
  absl::StatusOr<v1::BatchJob> Cancel(const std::string& job_id);
  absl::StatusOr<bool> Delete(const std::string& job_id);
  // `rows` loses those that must not run.
  absl::Status MarkInFlight(std::vector<PendingRow>& rows);
  absl::Status RecordResult(const std::string& job_id, const FinishedRow& finished);

  // Jobs whose time has come: expiry and retention.
  absl::Status ApplyDeadlines(absl::Time now);
  absl::Time next_deadline() const;  // InfiniteFuture if none
  // A bounded piece of ending cancelled or expired jobs and of removing deleted ones.
  absl::Status BackgroundStep();
  bool HasBackgroundWork() const { return !ending_.empty() || !purging_.empty(); }

 private:
  Ledger(const LedgerOptions& options, Database& database, Logger& logger)
      : options_(options), database_(database), logger_(logger) {}

  absl::Status Load(int64_t crash_id);
  absl::Status LoadInFlight(bool crashed, int64_t last_run);
  absl::Status Quarantine(JobEntry& entry, int64_t row);

  absl::StatusOr<JobEntry*> Find(const std::string& job_id);
  absl::StatusOr<v1::BatchJob> AnswerRepeatedCreate(const v1::CreateBatchJobRequest& request,
                                                    int64_t serial);
  void IndexRequest(const JobEntry& entry);
  std::string NewJobId();
  void Touch(const JobEntry& entry) { dirty_.insert(entry.serial); }
  void AddQueued(JobEntry& entry, int64_t rows, int64_t tokens);
  void AddBytes(JobEntry& entry, int64_t bytes);
  // Of a job that was just sealed, with what else is there to run.
  void EstimateEnd(JobEntry& entry, double tokens_per_s);
  // Recomputes the deadline. Call when the state changes.
  void SetDeadline(JobEntry& entry);
  void DropDeadline(JobEntry& entry) { deadlines_.erase({entry.deadline, entry.serial}); }

  absl::Status CompareRows(const JobEntry& entry, int64_t first_row,
                           const std::vector<EncodedRow>& rows, size_t count);
  absl::Status CheckAppendLimits(const JobEntry& entry, int64_t first_row,
                                 const std::vector<EncodedRow>& rows, size_t begin) const;
  absl::Status CheckClientQuota(const JobEntry& entry, const ClientUse& added) const;
  absl::Status InsertRows(JobEntry& entry, const std::vector<EncodedRow>& rows, size_t begin);
  absl::StatusOr<bool> MarkRow(const PendingRow& row);
  absl::StatusOr<bool> AllRefused(const JobEntry& entry, int64_t begin, int64_t end);

  // Ending.
  absl::Status StartEnding(JobEntry& entry, Ending ending);
  absl::Status EndWaitingRows(JobEntry& entry);
  absl::Status EndRows(JobEntry& entry, int64_t first_row, int64_t num_rows);
  absl::Status EndRequeuedRows(JobEntry& entry);
  void FinishIfDone(JobEntry& entry);
  absl::Status RemoveJob(JobEntry& entry);
  absl::Status PurgeStep();

  LedgerOptions options_;
  Database& database_;
  Logger& logger_;
  std::unique_ptr<Tables> tables_;
  std::unique_ptr<RowReader> row_reader_;
  absl::BitGen random_;

  std::map<int64_t, JobEntry> jobs_;  // by serial
  absl::flat_hash_map<std::string, int64_t> serial_of_id_;
  absl::flat_hash_map<std::string, int64_t> serial_of_request_;  // by RequestKey()
  absl::flat_hash_map<std::string, ClientUse> use_of_client_;
  int64_t next_serial_ = 1;
  int64_t next_seal_order_ = 1;
  int64_t run_ = 0;  // number of this process among those that opened the store
  int64_t queued_rows_ = 0;
  int64_t queued_tokens_ = 0;

  std::set<std::pair<absl::Time, int64_t>> deadlines_;  // JobEntry::deadline and serial
  std::deque<int64_t> ending_;                          // serials with waiting rows left to end
  std::deque<int64_t> purging_;                         // serials of deleted jobs
  std::set<int64_t> dirty_;                             // serials changed since the last commit
  std::vector<JobSnapshotPtr> removed_;                 // since the last commit
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_LEDGER_H_
