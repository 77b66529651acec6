// JobDurations: finds the jobs that ended since the last look, for the duration histogram.
//
// A scrape looks, so nothing stands between the store and its commits. The jobs are listed only if
// their counts by state have moved. A job that ends and is deleted between two looks is missed.
//
// Threads: one at a time. Borrows the store.
#ifndef MOELIGHT_SERVER_JOB_DURATIONS_H_
#define MOELIGHT_SERVER_JOB_DURATIONS_H_

#include <functional>
#include <utility>
#include <vector>

#include <google/protobuf/timestamp.pb.h>

#include "server/job_store.h"

namespace moelight {

class JobDurations {
 public:
  // Jobs that have ended already do not count.
  explicit JobDurations(const JobStore& store);

  // Calls `observe` with the seconds from creation to end of each job that ended since.
  void Scan(const JobStore::Levels& levels, const std::function<void(double seconds)>& observe);

 private:
  const JobStore& store_;
  std::vector<std::pair<v1::BatchJob::State, int64_t>> last_counts_;
  google::protobuf::Timestamp last_end_;  // of the jobs seen so far
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_JOB_DURATIONS_H_
