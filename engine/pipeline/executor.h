// Executor: runs a StepPlan on a backend's streams, one per lane, and measures it.
//
// Threads: engine thread. Owns the streams; borrows the backend. Allocates in Create and, for its
// books, when a plan is larger than any before it.
#ifndef MOELIGHT_ENGINE_PIPELINE_EXECUTOR_H_
#define MOELIGHT_ENGINE_PIPELINE_EXECUTOR_H_

#include <array>
#include <memory>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {

// Does the work of one task by issuing ops on `stream`.
class TaskRunner {
 public:
  virtual ~TaskRunner() = default;
  virtual absl::Status Run(const Task& task, Stream& stream) = 0;
};

// Where the time of one step went.
struct LaneTimes {
  double step_us = 0;
  std::array<double, kNumLanes> busy_us = {};
  // [lane][cause], as StepStats::lane_stall_us.
  std::array<std::array<double, kNumLanes>, kNumLanes> stall_us = {};
  double transfer_overlapped_us = 0;
};

class Executor {
 public:
  explicit Executor(Backend& backend);
  // Blocks until the step has ended on every lane.
  absl::StatusOr<LaneTimes> Run(const StepPlan& plan, TaskRunner& runner);

 private:
  Stream& stream(Lane lane) { return *streams_[static_cast<int>(lane)]; }
  LaneTimes Measure(const StepPlan& plan);

  std::array<std::unique_ptr<Stream>, kNumLanes> streams_;
  std::vector<TaskTiming> timings_;
  std::vector<TaskTiming> compute_;  // merged busy intervals of the compute lanes
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_EXECUTOR_H_
