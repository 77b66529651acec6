#include "server/store/job_board.h"

#include <algorithm>
#include <utility>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/store/fair_shares.h"
#include "server/store/store_errors.h"

namespace moelight {
namespace {

constexpr int32_t kDefaultPageSize = 50;
constexpr int32_t kMaxPageSize = 1000;

bool HasRowsToHandOut(const JobSnapshot& snapshot) {
  return snapshot.runnable && (snapshot.num_waiting() > 0 || !snapshot.requeued.empty());
}

// A page token is the serial of the last job of the page before.
absl::StatusOr<int64_t> PageStart(const std::string& page_token) {
  int64_t before = std::numeric_limits<int64_t>::max();
  if (!page_token.empty() && (!absl::SimpleAtoi(page_token, &before) || before < 0)) {
    return absl::InvalidArgumentError(
        "page_token: must be empty or next_page_token of an earlier answer");
  }
  return before;
}

}  // namespace

void JobBoard::Count(const JobSnapshot& snapshot, int64_t sign) {
  jobs_by_state_[snapshot.job.state()] += sign;
  queued_rows_ += sign * snapshot.queued_rows;
  queued_tokens_ += sign * snapshot.queued_tokens;
  if (snapshot.num_in_flight == 0) return;
  const auto held = in_flight_by_client_.emplace(snapshot.job.client(), 0).first;
  held->second += sign * snapshot.num_in_flight;
  if (held->second == 0) in_flight_by_client_.erase(held);
}

void JobBoard::Remove(const JobSnapshot& snapshot) {
  const auto found = by_serial_.find(snapshot.serial);
  if (found == by_serial_.end()) return;
  const JobSnapshotPtr old = std::move(found->second);
  by_serial_.erase(found);
  by_id_.erase(old->job.job_id());
  by_seal_order_.erase(old->seal_order);
  ending_.erase(old->job.job_id());
  Count(*old, -1);
}

void JobBoard::Insert(JobSnapshotPtr snapshot) {
  Count(*snapshot, +1);
  if (HasRowsToHandOut(*snapshot)) by_seal_order_[snapshot->seal_order] = snapshot;
  if (snapshot->job.state() == v1::BatchJob::STATE_CANCELLING) {
    ending_.insert(snapshot->job.job_id());
  }
  by_id_[snapshot->job.job_id()] = snapshot;
  by_serial_[snapshot->serial] = std::move(snapshot);
}

void JobBoard::Publish(const BoardChange& change) {
  MutexLock lock(&mutex_);
  for (const JobSnapshotPtr& snapshot : change.updated) {
    Remove(*snapshot);
    Insert(snapshot);
  }
  for (const JobSnapshotPtr& snapshot : change.removed) Remove(*snapshot);
}

absl::StatusOr<JobSnapshotPtr> JobBoard::Find(const std::string& job_id) const {
  {
    MutexLock lock(&mutex_);
    const auto found = by_id_.find(job_id);
    if (found != by_id_.end()) return found->second;
  }
  return NoJobError(job_id);
}

absl::StatusOr<v1::ListBatchJobsResponse> JobBoard::List(const v1::ListBatchJobsRequest& request,
                                                         const std::string* client) const {
  if (request.page_size() < 0 || request.page_size() > kMaxPageSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size: is ", request.page_size(), ", must be 1 to ", kMaxPageSize));
  }
  const size_t page_size = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
  ASSIGN_OR_RETURN(const int64_t before, PageStart(request.page_token()));
  const std::set<int> states(request.states().begin(), request.states().end());

  std::vector<JobSnapshotPtr> page;  // one more than fits tells that another page follows
  {
    MutexLock lock(&mutex_);
    for (auto it = by_serial_.lower_bound(before); it != by_serial_.begin();) {
      --it;
      if (!states.empty() && !states.contains(it->second->job.state())) continue;
      if (client != nullptr && it->second->job.client() != *client) continue;
      page.push_back(it->second);
      if (page.size() > page_size) break;
    }
  }
  v1::ListBatchJobsResponse response;
  for (size_t i = 0; i < std::min(page.size(), page_size); ++i) {
    *response.add_jobs() = page[i]->job;
  }
  if (page.size() > page_size) {
    response.set_next_page_token(absl::StrCat(page[page_size - 1]->serial));
  }
  return response;
}

JobStore::Levels JobBoard::levels() const {
  MutexLock lock(&mutex_);
  JobStore::Levels levels;
  levels.queued_rows = queued_rows_;
  levels.queued_tokens = queued_tokens_;
  levels.jobs_by_state.assign(jobs_by_state_.begin(), jobs_by_state_.end());
  return levels;
}

std::vector<std::string> JobBoard::EndingJobs() const {
  MutexLock lock(&mutex_);
  return {ending_.begin(), ending_.end()};
}

PendingPlan JobBoard::PlanPending(int64_t max_rows) const {
  std::vector<JobSnapshotPtr> jobs;
  absl::flat_hash_map<std::string, int64_t> in_flight_by_client;
  {
    MutexLock lock(&mutex_);
    jobs.reserve(by_seal_order_.size());
    for (const auto& [seal_order, snapshot] : by_seal_order_) jobs.push_back(snapshot);
    in_flight_by_client = in_flight_by_client_;
  }
  PendingPlan plan;
  absl::flat_hash_map<absl::string_view, int64_t> held(in_flight_by_client.begin(),
                                                       in_flight_by_client.end());
  std::vector<WaitingJob> waiting;
  waiting.reserve(jobs.size());
  for (const JobSnapshotPtr& job : jobs) {
    const int64_t num_requeued = std::min(max_rows, static_cast<int64_t>(job->requeued.size()));
    if (num_requeued > 0) plan.requeued.push_back({job, num_requeued});
    max_rows -= num_requeued;
    held[job->job.client()] += num_requeued;
    waiting.push_back({RankOf(job->job, job->seal_order), job->num_waiting()});
  }
  for (const DealtRows& dealt : DealPlaces(waiting, std::move(held), weights_, max_rows)) {
    plan.waiting.push_back({jobs[dealt.job], dealt.num_rows});
  }
  return plan;
}

}  // namespace moelight
