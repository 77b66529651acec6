// The two questions that are answered from disk: results of a job, rows to run.
//
// Threads: each call reads on the thread of its ReadConnection. What is read lies below what the
// given snapshot says is committed, and stored rows and results never change.
#ifndef MOELIGHT_SERVER_STORE_PAGED_READS_H_
#define MOELIGHT_SERVER_STORE_PAGED_READS_H_

#include <cstdint>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>

#include "server/job_store.h"
#include "server/store/job_board.h"
#include "server/store/read_thread.h"

namespace moelight {

// See JobStore::ReadResults.
absl::StatusOr<ResultsPage> ReadResultsPage(const JobSnapshot& job, int64_t cursor,
                                            int64_t max_bytes, ReadConnection& connection);

// Finds rows to run. Keeps, per runnable job, how far refused rows reach, so that a long run of
// them is passed once.
class PendingRows {
 public:
  // See JobStore::NextPending; `plan` is JobBoard::PlanPending's.
  absl::StatusOr<std::vector<PendingRow>> Next(const std::vector<JobSnapshotPtr>& plan,
                                               int64_t max_rows, ReadConnection& connection);

 private:
  struct Collector;
  absl::Status AddRequeued(const JobSnapshot& job, Collector& out);
  absl::Status AddWaiting(const JobSnapshot& job, Collector& out);

  absl::flat_hash_map<int64_t, int64_t> first_runnable_;  // by serial
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_PAGED_READS_H_
