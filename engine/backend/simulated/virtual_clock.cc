#include "engine/backend/simulated/virtual_clock.h"

#include "engine/base/status_macros.h"

namespace moelight {

void SimulatedStream::BeginTask(int task) {
  now_us_ = std::max(now_us_, clock_->host_us());
  tasks_.issued(task).begin_us = now_us_;
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

}  // namespace moelight
