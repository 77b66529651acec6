// StepPredictor: how long a step takes, for any plan and batch: task costs, contention for the
// host's memory, lane model.
//
// Threads: immutable once made. Owns copies of config and profile. Predicting a step of 32 layers
// takes tens of microseconds.
#ifndef MOELIGHT_ENGINE_PLANNER_STEP_PREDICTOR_H_
#define MOELIGHT_ENGINE_PLANNER_STEP_PREDICTOR_H_

#include <array>
#include <cstdint>
#include <vector>

#include "engine/base/hardware_profile.h"
#include "engine/base/lane.h"
#include "engine/pipeline/step_plan.h"
#include "engine/planner/batch_shape.h"
#include "engine/planner/task_costs.h"

namespace moelight {

struct StepPrediction {
  double step_us = 0;
  // By Lane. Copies to the device are counted as long as they take beside the host's kernels.
  std::array<double, kNumLanes> busy_us = {};
  // If all of what reads the host's memory only waited for that.
  double host_memory_us = 0;
  double host_us = 0;  // between steps: sampling, and what is done for each sequence
  // Operations and bytes: of the GPU and the CPU, and over the link.
  double gpu_flops = 0;
  double cpu_flops = 0;
  double gpu_bytes = 0;
  double cpu_bytes = 0;
  double h2d_bytes = 0;
  double d2h_bytes = 0;

  // What one resource alone would need, everything else being free: no schedule is faster.
  double bound_us() const;
};

class StepPredictor {
 public:
  StepPredictor(const ModelConfig& config, const StorageFormats& formats,
                const HardwareProfile& profile);
  StepPredictor(const StepPredictor&) = delete;
  StepPredictor& operator=(const StepPredictor&) = delete;

  // `weights` and `page_bytes`: of the plan's stream.
  StepPrediction Predict(const StepPlan& plan, const BatchShape& batch, const WeightStream& weights,
                         int64_t page_bytes) const;

  const TaskCosts& costs() const { return task_costs_; }
  const ModelConfig& config() const { return config_; }
  // Joules of a step; 0 if the profile does not tell what the machine draws.
  double JoulesOf(const StepPrediction& step) const;

 private:
  // Times of the plan's tasks, each by itself; adds up in `alone` what does not depend on when they
  // run.
  std::vector<double> CostTasks(const StepPlan& plan, const BatchShape& batch,
                                const WeightStream& weights, int64_t page_bytes,
                                StepPrediction* alone) const;
  StepPrediction PredictStretched(const StepPlan& plan, std::vector<double> task_us,
                                  double host_stretch, const StepPrediction& alone) const;
  // By how much copies to the device are stretched, because the host's kernels use its memory too.
  double StretchOfCopies(const StepPrediction& alone) const;
  // By how much the host's kernels are, in a step of `step_us`, because copies use its memory.
  double StretchOfHost(const StepPrediction& alone, double step_us) const;

  const ModelConfig config_;
  const OpCosts op_costs_;
  const TaskCosts task_costs_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PLANNER_STEP_PREDICTOR_H_
