// JobBoard: what is committed about every job, for everybody who reads.
//
// Threads: thread-safe. The writer publishes after each commit; readers take a pointer to an
// immutable snapshot under a mutex that is never held across disk access or copying of messages,
// so a read takes microseconds however busy the disk is.
// Owns: one snapshot per job. Errors: NotFound, InvalidArgument for a bad page.
#ifndef MOELIGHT_SERVER_STORE_JOB_BOARD_H_
#define MOELIGHT_SERVER_STORE_JOB_BOARD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>

#include "engine/base/mutex.h"
#include "server/client_weights.h"
#include "server/job_store.h"
#include "server/store/job_entry.h"

namespace moelight {

using JobSnapshotPtr = std::shared_ptr<const JobSnapshot>;

// Which rows to hand out next.
struct PendingPlan {
  struct Rows {
    JobSnapshotPtr job;
    int64_t num_rows = 0;
  };
  std::vector<Rows> requeued;  // first of all
  std::vector<Rows> waiting;   // from JobSnapshot::next_row on
};

// What one commit changed.
struct BoardChange {
  std::vector<JobSnapshotPtr> updated;
  std::vector<JobSnapshotPtr> removed;  // as they were last
};

class JobBoard {
 public:
  explicit JobBoard(ClientWeights weights) : weights_(std::move(weights)) {}

  void Publish(const BoardChange& change);

  absl::StatusOr<JobSnapshotPtr> Find(const std::string& job_id) const;
  // Jobs of `client` only, if it is not null.
  absl::StatusOr<v1::ListBatchJobsResponse> List(const v1::ListBatchJobsRequest& request,
                                                 const std::string* client) const;
  // queued_mutations is left 0.
  JobStore::Levels levels() const;
  std::vector<std::string> EndingJobs() const;
  // See JobStore::NextPending.
  PendingPlan PlanPending(int64_t max_rows) const;

 private:
  void Count(const JobSnapshot& snapshot, int64_t sign) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(const JobSnapshot& snapshot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Insert(JobSnapshotPtr snapshot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ClientWeights weights_;
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, JobSnapshotPtr> by_id_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, JobSnapshotPtr> by_serial_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, JobSnapshotPtr> by_seal_order_ ABSL_GUARDED_BY(mutex_);  // with rows to run
  std::set<std::string> ending_ ABSL_GUARDED_BY(mutex_);                     // in CANCELLING
  absl::flat_hash_map<std::string, int64_t> in_flight_by_client_ ABSL_GUARDED_BY(mutex_);  // not 0
  std::map<v1::BatchJob::State, int64_t> jobs_by_state_ ABSL_GUARDED_BY(mutex_);
  int64_t queued_rows_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t queued_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_JOB_BOARD_H_
