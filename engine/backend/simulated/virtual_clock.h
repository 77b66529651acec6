// VirtualClock and the streams that run on it.
//
// A task begins when it has been issued, the task before it on its lane has ended and so have the
// tasks it waits for. Tasks are issued in an order in which every edge points backwards, so all of
// that is known at once and nothing has to be queued.
//
// Threads: one.
#ifndef MOELIGHT_ENGINE_BACKEND_SIMULATED_VIRTUAL_CLOCK_H_
#define MOELIGHT_ENGINE_BACKEND_SIMULATED_VIRTUAL_CLOCK_H_

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/backend/backend.h"
#include "engine/backend/task_banks.h"

namespace moelight {

// Time of the thread that issues, and a meter of what ops took.
class VirtualClock {
 public:
  double host_us() const { return host_us_; }
  void AdvanceHostTo(double us) { host_us_ = std::max(host_us_, us); }
  // What that thread does between two steps.
  void AdvanceHost(double us) { host_us_ += us; }
  double metered_us() const { return metered_us_; }
  void Meter(double us) { metered_us_ += us; }

 private:
  double host_us_ = 0;
  double metered_us_ = 0;
};

class SimulatedStream final : public Stream {
 public:
  SimulatedStream(Lane lane, std::shared_ptr<VirtualClock> clock)
      : lane_(lane), clock_(std::move(clock)) {}

  Lane lane() const { return lane_; }

  // The op that was just issued takes `us`.
  void Spend(double us) {
    now_us_ += us;
    clock_->Meter(us);
  }

  void BeginStep(int num_tasks) override { tasks_.BeginStep(num_tasks); }
  void BeginAhead(int num_tasks) override { tasks_.BeginAhead(num_tasks); }
  void EndAhead() override { tasks_.EndAhead(); }
  void BeginTask(int task) override;
  void EndTask(int task) override { tasks_.issued(task).end_us = now_us_; }
  absl::Status WaitFor(const Stream& other, int task) override;
  // What ops on other streams take within `work`, which waits for them, counts on this one.
  absl::Status RunOnHost(std::function<absl::Status()> work) override;
  absl::Status Synchronize() override;
  TaskTiming timing(int task) const override { return tasks_.record(task); }

 private:
  const Lane lane_;
  const std::shared_ptr<VirtualClock> clock_;
  double now_us_ = 0;
  TaskBanks<TaskTiming> tasks_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_SIMULATED_VIRTUAL_CLOCK_H_
