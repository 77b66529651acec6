// The lane model: when each task of a plan runs, from what each takes.
//
// A task begins when the one before it on its lane and those on its edges have ended, as the
// executor runs it. Steps follow each other: what one loads ahead is there for the next. All times
// are sums and maxima of what tasks take, so none ever becomes longer because another becomes
// shorter.
//
// Pure; thread-safe.
#ifndef MOELIGHT_ENGINE_PLANNER_LANE_MODEL_H_
#define MOELIGHT_ENGINE_PLANNER_LANE_MODEL_H_

#include <array>
#include <vector>

#include <absl/types/span.h>

#include "engine/base/lane.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {

struct LanePrediction {
  double step_us = 0;                          // from one step's begin to the next one's
  std::array<double, kNumLanes> busy_us = {};  // by Lane
};

// task_us[i] is what plan.tasks[i] takes; `host_us` what the host does between two steps.
LanePrediction PredictSteadyStep(const StepPlan& plan, absl::Span<const double> task_us,
                                 double host_us);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PLANNER_LANE_MODEL_H_
