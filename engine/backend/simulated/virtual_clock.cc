#include "engine/backend/simulated/virtual_clock.h"

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {

void SimulatedStream::BeginStep(int num_tasks) {
  tasks_.swap(ahead_);
  tasks_.resize(num_tasks);
  ahead_.clear();
  is_ahead_ = false;
}

void SimulatedStream::BeginAhead(int num_tasks) {
  ahead_.resize(num_tasks);
  is_ahead_ = true;
}

void SimulatedStream::BeginTask(int task) {
  now_us_ = std::max(now_us_, clock_->host_us());
  issued(task).begin_us = now_us_;
}

absl::Status SimulatedStream::WaitFor(const Stream& other, int task) {
  now_us_ = std::max(now_us_, other.timing(task).end_us);
  return absl::OkStatus();
}

absl::Status SimulatedStream::RunOnHost(std::function<absl::Status()> work) {
  const double before_us = clock_->metered_us();
  RETURN_IF_ERROR(work());
  now_us_ += clock_->metered_us() - before_us;
  return absl::OkStatus();
}

absl::Status SimulatedStream::Synchronize() {
  clock_->AdvanceHostTo(now_us_);
  return absl::OkStatus();
}

TaskTiming SimulatedStream::timing(int task) const {
  CHECK(task >= 0 && task < static_cast<int>(tasks_.size()))
      << "task " << task << " of " << tasks_.size();
  return tasks_[task];
}

TaskTiming& SimulatedStream::issued(int task) {
  std::vector<TaskTiming>& tasks = is_ahead_ ? ahead_ : tasks_;
  CHECK(task >= 0 && task < static_cast<int>(tasks.size()))
      << "task " << task << " of " << tasks.size();
  return tasks[task];
}

}  // namespace moelight
