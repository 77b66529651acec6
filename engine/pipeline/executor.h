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
#include <absl/types/span.h>

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
  double compute_overlapped_us = 0;
};

class Executor {
 public:
  explicit Executor(Backend& backend);
  // Waits for loads that were issued ahead.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Blocks until the step has ended on every lane; loads issued ahead for the next step go on. They
  // count in the books of the step that uses them.
  absl::StatusOr<LaneTimes> Run(const StepPlan& plan, TaskRunner& runner);

  // Of the plan's tasks (zeros for those issued ahead, which are the next step's); until the next
  // Run().
  absl::Span<const TaskTiming> timings() const { return timings_; }

 private:
  Stream& stream(Lane lane) { return *streams_[static_cast<int>(lane)]; }
  absl::Status Issue(const StepPlan& plan, TaskRunner& runner);
  absl::Status IssueTask(const StepPlan& plan, int index, TaskRunner& runner);
  void CollectTimings(const StepPlan& plan);
  LaneTimes Measure(const StepPlan& plan);

  std::array<std::unique_ptr<Stream>, kNumLanes> streams_;
  int num_issued_ahead_ = 0;  // head tasks of the next step that are under way
  std::vector<TaskTiming> timings_;
  std::vector<TaskTiming> compute_;         // merged busy intervals of the compute lanes
  std::vector<TaskTiming> transfer_;        // and of the link lanes
  std::vector<TaskTiming> last_uncovered_;  // what of compute_ no transfer of its step covered
  std::vector<TaskTiming> last_compute_;  // compute_ of the step before, beside which the head ran
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_EXECUTOR_H_
