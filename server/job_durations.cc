#include "server/job_durations.h"

#include <google/protobuf/util/time_util.h>

namespace moelight {
namespace {

using ::google::protobuf::util::TimeUtil;

constexpr int kPageSize = 1000;

}  // namespace

JobDurations::JobDurations(const JobStore& store)
    : store_(store), last_end_(TimeUtil::GetCurrentTime()) {}

void JobDurations::Scan(const JobStore::Levels& levels,
                        const std::function<void(double seconds)>& observe) {
  if (levels.jobs_by_state == last_counts_) return;
  last_counts_ = levels.jobs_by_state;
  v1::ListBatchJobsRequest request;
  request.set_page_size(kPageSize);
  for (const v1::BatchJob::State state :
       {v1::BatchJob::STATE_SUCCEEDED, v1::BatchJob::STATE_FAILED, v1::BatchJob::STATE_CANCELLED,
        v1::BatchJob::STATE_EXPIRED}) {
    request.add_states(state);
  }
  google::protobuf::Timestamp newest = last_end_;
  do {
    const absl::StatusOr<v1::ListBatchJobsResponse> page = store_.List(request);
    if (!page.ok()) break;
    for (const v1::BatchJob& job : page->jobs()) {
      if (job.end_time() <= last_end_) continue;
      observe(TimeUtil::DurationToMilliseconds(job.end_time() - job.create_time()) / 1e3);
      if (job.end_time() > newest) newest = job.end_time();
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  last_end_ = newest;
}

}  // namespace moelight
