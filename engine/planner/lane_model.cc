#include "engine/planner/lane_model.h"

#include <algorithm>

#include "engine/base/check.h"

namespace moelight {
namespace {

// Loads ahead are issued once the ring has room, so the first step starts without them, the second
// with those of the first, and the third is like all that follow.
constexpr int kNumSteps = 3;

}  // namespace

LanePrediction PredictSteadyStep(const StepPlan& plan, absl::Span<const double> task_us,
                                 double host_us) {
  const int num_tasks = static_cast<int>(plan.tasks.size());
  CHECK_EQ(static_cast<int>(task_us.size()), num_tasks);
  LanePrediction prediction;
  for (int i = 0; i < num_tasks; ++i) {
    if (plan.tasks[i].ahead) continue;  // they are the next step's head
    prediction.busy_us[static_cast<int>(TaskLane(plan.tasks[i].kind))] += task_us[i];
  }
  std::array<double, kNumLanes> lane_us = {};
  std::vector<double> end_us(num_tasks);
  std::vector<double> ahead_us;
  double begin_us = 0;  // when the step's tasks are issued
  double last_begin_us = 0;
  for (int step = 0; step < kNumSteps; ++step) {
    const bool has_head = !ahead_us.empty();
    double step_end_us = begin_us;
    std::vector<double> next_ahead_us;
    for (int i = 0; i < num_tasks; ++i) {
      const Task& task = plan.tasks[i];
      if (has_head && i < plan.num_head_tasks) {
        end_us[i] = ahead_us[i];
        continue;
      }
      double& lane = lane_us[static_cast<int>(TaskLane(task.kind))];
      double start_us = std::max(lane, begin_us);
      for (const int32_t before : task.after) start_us = std::max(start_us, end_us[before]);
      lane = end_us[i] = start_us + task_us[i];
      if (task.ahead) {
        next_ahead_us.push_back(lane);
      } else {
        step_end_us = std::max(step_end_us, lane);
      }
    }
    ahead_us.swap(next_ahead_us);
    last_begin_us = begin_us;
    begin_us = step_end_us + host_us;
  }
  prediction.step_us = begin_us - last_begin_us;
  return prediction;
}

}  // namespace moelight
