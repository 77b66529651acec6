// JobStore: batch jobs, their rows and results, on disk.
//
// Rules (engine-independent, see design "Durability"):
//  - Acknowledged = committed and fsynced before the callback. Visible = durable: Get, List and
//    ReadResults only ever show committed state, so what a client has seen survives kill -9.
//  - Every row has exactly one terminal record. Work may be repeated after a crash, records may
//    not.
//  - One connection writes and checkpoints (SQLite 3.40 can corrupt the WAL with several).
//    Mutations go through one bounded queue to one writer thread, which commits whatever has
//    gathered (group commit). Readers have connections of their own.
//  - The first failed fsync or write ends the store: nothing is acknowledged afterwards, and
//    `on_fatal` is called once with the reason.
//  - Opening does no scan: counters and states live in the jobs table.
//
// Threads: all methods are thread-safe and none blocks on the disk. Mutations call `done` on the
// writer thread, paged reads on a reader thread; a call that is refused because a queue is full or
// the store has ended calls `done` at once, on the caller's thread. `done` must not block.
// Owns: the database files under JobStoreOptions::path.
// Errors: ResourceExhausted (queue full, with RetryInfo; limit, with QuotaFailure), NotFound (job),
// AlreadyExists, FailedPrecondition, OutOfRange as the RPC comments in
// proto/moelight/v1/batch_job.proto say; DataLoss naming job and row for stored bytes whose
// checksum does not match; Unavailable once the store has ended.
#ifndef MOELIGHT_SERVER_JOB_STORE_H_
#define MOELIGHT_SERVER_JOB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/base/logger.h"
#include "moelight/v1/batch_job.pb.h"
#include "server/client_weights.h"

namespace moelight {

// What one client may hold, by the name in its jobs. 0: nothing but the limits of all together.
struct ClientQuota {
  int64_t queued_rows = 0;    // rows without terminal record
  int64_t queued_tokens = 0;  // estimated prompt tokens of those rows
  int64_t stored_bytes = 0;   // of the rows of all jobs that are kept, ended ones included
};

// Limits that the store itself holds, because only it sees the sums. 0 is refused by the config.
// Errors name them by their configuration key, "server.limits." and the name here.
struct JobStoreLimits {
  int64_t jobs = 10'000;  // jobs kept, ended ones included
  int64_t rows_per_job = 10'000'000;
  int64_t row_bytes = 1 << 20;             // serialized BatchRequest
  int64_t queued_rows = 50'000'000;        // rows without terminal record, all jobs
  int64_t queued_tokens = 10'000'000'000;  // estimated prompt tokens of those rows
  absl::flat_hash_map<std::string, ClientQuota> clients = {};
};

struct JobStoreOptions {
  std::string path;  // folder, created if absent
  JobStoreLimits limits;
  ClientWeights client_weights;
  int64_t retention_seconds = 7 * 24 * 3600;  // ended jobs are removed after this; 0: kept
  int32_t max_queued_mutations = 4096;
  int64_t max_queued_mutation_bytes = 32 << 20;   // bounds memory while rows stream in
  std::function<void(absl::Status)> on_fatal;     // called once, on the writer thread
  std::function<void(double seconds)> on_commit;  // duration of each commit, for the metric
  // SQLite VFS by name, empty for the platform's. Tests inject failing disks through it.
  std::string vfs;
};

// A row to run.
struct PendingRow {
  std::string job_id;
  int64_t row = 0;
  moelight::v1::BatchRequest request;
  int64_t estimated_prompt_tokens = 0;
  // Crashes of the process while the row was in flight. A row with any is a suspect and should run
  // apart from others; the store quarantines it at the third.
  int32_t crashes = 0;
  // DataLoss if the stored request is damaged: it cannot run, its result is this error.
  absl::Status status;
};

// A row as appended. `refusal` not OK: it is stored with its failed result at once and never runs.
struct AppendRow {
  moelight::v1::BatchRequest request;
  int64_t estimated_prompt_tokens = 0;
  google::rpc::Status refusal;  // code 0: runs
  int64_t estimated_output_tokens = 0;
};

struct AppendOutcome {
  int64_t num_rows = 0;  // rows of the job on disk
};

struct ResultsPage {
  std::vector<moelight::v1::BatchResult> results;
  int64_t next_cursor = 0;
  bool job_ended = false;  // and no result lies behind next_cursor
};

template <typename T>
using StoreDone = std::function<void(absl::StatusOr<T>)>;

class JobStore {
 public:
  static absl::StatusOr<std::unique_ptr<JobStore>> Open(JobStoreOptions options, Logger& logger);
  virtual ~JobStore() = default;  // commits what is queued, then closes

  // --- Mutations ---
  virtual void Create(const moelight::v1::CreateBatchJobRequest& request,
                      StoreDone<moelight::v1::BatchJob> done) = 0;
  // Rows from `first_row` on. Repeats of stored rows are recognised and skipped if equal.
  virtual void Append(const std::string& job_id, int64_t first_row, std::vector<AppendRow> rows,
                      StoreDone<AppendOutcome> done) = 0;
  // The job's end is estimated from `tokens_per_s`, of prompts and answers together; 0: not known.
  virtual void Seal(const std::string& job_id, int64_t expected_rows /* -1: any */,
                    double tokens_per_s, StoreDone<moelight::v1::BatchJob> done) = 0;
  // To CANCELLING, or CANCELLED if nothing is in flight. Rows not in flight get their CANCELLED
  // records in bounded transactions.
  virtual void Cancel(const std::string& job_id, StoreDone<moelight::v1::BatchJob> done) = 0;
  virtual void Delete(const std::string& job_id, StoreDone<bool> done) = 0;
  // Notes durably that these rows are about to run, so that a row which crashes the process is
  // found. `done` gets those that must run; rows whose job was cancelled meanwhile, or that are in
  // flight already, are left out. Never refused for a full queue: the caller bounds the rows.
  // REQUIRES: rows from NextPending(), in its order, none left out before them.
  virtual void MarkInFlight(std::vector<PendingRow> rows,
                            StoreDone<std::vector<PendingRow>> done) = 0;
  // The terminal record of one row in flight; ends its job when it was the last. A second record
  // for a row is dropped, with a warning in the log. In a job that is being ended, a result with
  // error code CANCELLED becomes the record that all its rows get (CANCELLED or DEADLINE_EXCEEDED).
  // Never refused for a full queue: there is at most one for each row in flight.
  virtual void RecordResult(const std::string& job_id, moelight::v1::BatchResult result,
                            std::function<void(absl::Status)> done) = 0;

  // In force for every mutation submitted after it. Never refused for a full queue.
  virtual void SetLimits(JobStoreLimits limits) = 0;

  // --- Reads from memory ---
  virtual absl::StatusOr<moelight::v1::BatchJob> Get(const std::string& job_id) const = 0;
  // Jobs of `client` only, if it is not null.
  virtual absl::StatusOr<moelight::v1::ListBatchJobsResponse> List(
      const moelight::v1::ListBatchJobsRequest& request,
      const std::string* client = nullptr) const = 0;
  // Jobs in CANCELLING: their rows in flight are to be stopped.
  virtual std::vector<std::string> EndingJobs() const = 0;
  struct Levels {
    // Rows without terminal record; of a job that is being ended, those in the engine.
    int64_t queued_rows = 0;
    int64_t queued_tokens = 0;  // estimated prompt tokens of those
    int64_t queued_mutations = 0;
    std::vector<std::pair<moelight::v1::BatchJob::State, int64_t>> jobs_by_state;
  };
  virtual Levels levels() const = 0;

  // --- Paged reads from disk ---
  // Results from the cursor-th to finish on, at least one if there is one, otherwise at most
  // `max_bytes` of them. A cursor is a number of results; OutOfRange beyond the last.
  virtual void ReadResults(const std::string& job_id, int64_t cursor, int64_t max_bytes,
                           StoreDone<ResultsPage> done) = 0;
  // Up to `max_rows` rows (and a few MiB) of runnable jobs that have no record and are not in
  // flight: first the rows that were in flight when the process last ended, then those of the jobs
  // of highest priority. Among jobs of equal priority, so many that rows in flight are in
  // proportion to the clients' weights, and of each client the job first that expires first, then
  // the one sealed first. Rows of a job in order. Never refused for a full queue; one call at a
  // time.
  virtual void NextPending(int64_t max_rows, StoreDone<std::vector<PendingRow>> done) = 0;

  // `changed` is called on the writer thread after each commit that changed or removed the job (any
  // job if `job_id` is empty). It must not block. Unsubscribe returns once no call is running; from
  // within the call it returns at once.
  using SubscriptionId = int64_t;
  virtual SubscriptionId Subscribe(const std::string& job_id, std::function<void()> changed) = 0;
  virtual void Unsubscribe(SubscriptionId id) = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_JOB_STORE_H_
