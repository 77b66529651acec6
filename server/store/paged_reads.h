// The two questions that are answered from disk: results of a job, rows to run.
//
// Threads: each call reads on the thread of its ReadConnection. What is read lies below what the
// given snapshot says is committed, and stored rows and results never change.
#ifndef MOELIGHT_SERVER_STORE_PAGED_READS_H_
#define MOELIGHT_SERVER_STORE_PAGED_READS_H_

#include <cstdint>
#include <vector>

#include <absl/status/statusor.h>

#include "server/job_store.h"
#include "server/store/job_board.h"
#include "server/store/read_thread.h"

namespace moelight {

// See JobStore::ReadResults.
absl::StatusOr<ResultsPage> ReadResultsPage(const JobSnapshot& job, int64_t cursor,
                                            int64_t max_bytes, ReadConnection& connection);

// See JobStore::NextPending; `plan` is JobBoard::PlanPending's.
absl::StatusOr<std::vector<PendingRow>> ReadPendingRows(const PendingPlan& plan,
                                                        ReadConnection& connection);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_PAGED_READS_H_
