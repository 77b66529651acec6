#include "engine/planner/step_predictor.h"

#include <algorithm>
#include <vector>

#include "engine/planner/lane_model.h"

namespace moelight {
namespace {

constexpr double kUsPerSecond = 1e6;
// What the engine thread does for a sequence between two steps besides looking through its logits:
// its place in the batch, detokenization, stop strings.
constexpr double kHostUsPerSequence = 2;

// Halvings in search of the step that fits, and where they end: a thousandth of a step.
constexpr int kContentionSteps = 10;
constexpr double kContentionShare = 1e-3;

double& Busy(StepPrediction& prediction, Lane lane) {
  return prediction.busy_us[static_cast<int>(lane)];
}
double Busy(const StepPrediction& prediction, Lane lane) {
  return prediction.busy_us[static_cast<int>(lane)];
}

void Count(const OpCost& cost, Lane lane, StepPrediction* prediction) {
  Busy(*prediction, lane) += cost.us;
  switch (lane) {
    case Lane::kGpu:
      prediction->gpu_flops += cost.flops;
      prediction->gpu_bytes += cost.bytes;
      return;
    case Lane::kCpu:
      prediction->cpu_flops += cost.flops;
      prediction->cpu_bytes += cost.bytes;
      return;
    case Lane::kHostToDevice:
      prediction->h2d_bytes += cost.bytes;
      return;
    case Lane::kDeviceToHost:
      prediction->d2h_bytes += cost.bytes;
      return;
  }
}

}  // namespace

double StepPrediction::bound_us() const {
  return std::max(*std::max_element(busy_us.begin(), busy_us.end()), host_memory_us);
}

StepPredictor::StepPredictor(const ModelConfig& config, const StorageFormats& formats,
                             const HardwareProfile& profile)
    : config_(config), op_costs_(profile), task_costs_(config_, formats, op_costs_) {}

double StepPredictor::StretchOfCopies(const StepPrediction& alone) const {
  const double copy_us = Busy(alone, Lane::kHostToDevice);
  const double cpu_us = Busy(alone, Lane::kCpu);
  if (copy_us <= 0 || cpu_us <= 0 || !op_costs_.profile().has_gpu()) return 1;
  // While both run, both get the same share of what they would take alone.
  const double wanted = (alone.h2d_bytes / copy_us + alone.cpu_bytes / cpu_us) * kUsPerSecond;
  const double share = std::min(1.0, op_costs_.profile().host.shared_bytes_per_s / wanted);
  // Beside the CPU's `cpu_us`, copies fall behind by (1 - share) of it; beside nothing, not at all.
  return std::min(1 / share, 1 + (1 - share) * cpu_us / copy_us);
}

double StepPredictor::StretchOfHost(const StepPrediction& alone, double step_us) const {
  const double cpu_us = Busy(alone, Lane::kCpu);
  if (cpu_us <= 0 || step_us <= 0 || !op_costs_.profile().has_gpu()) return 1;
  // What the step's copies leave on average. Below a tenth nothing is plausible any more.
  const double shared = op_costs_.profile().host.shared_bytes_per_s;
  const double left = std::max(0.1 * shared, shared - alone.h2d_bytes / step_us * kUsPerSecond);
  return std::max(1.0, alone.cpu_bytes / cpu_us * kUsPerSecond / left);
}

std::vector<double> StepPredictor::CostTasks(const StepPlan& plan, const BatchShape& batch,
                                             const WeightStream& weights, int64_t page_bytes,
                                             StepPrediction* alone) const {
  std::vector<double> task_us;
  task_us.reserve(plan.tasks.size());
  // Layers of one kind cost the same, and a plan has many: with experts, dense, and the last.
  constexpr size_t kLayerKinds = 3;
  const size_t num_parts = batch.micro_batches.size();
  std::vector<OpCost> known(kLayerKinds * kNumTaskKinds * num_parts);
  for (const Task& task : plan.tasks) {
    const bool is_last = task.layer + 1 == config_.num_hidden_layers;
    const size_t layer_kind = is_last ? 2 : config_.layer_is_moe(task.layer) ? 1 : 0;
    const size_t kind = static_cast<size_t>(task.kind);
    OpCost& cost = known[(kind * kLayerKinds + layer_kind) * num_parts + task.micro_batch];
    if (cost.us == 0 || task.kind == TaskKind::kLoadWeights) {
      cost = task_costs_.Of(task, batch, weights, page_bytes);
    }
    task_us.push_back(cost.us);
    // What is loaded ahead is the next step's.
    if (!task.ahead) Count(cost, TaskLane(task.kind), alone);
  }
  const int64_t num_outputs = batch.num_outputs();
  alone->host_us = op_costs_.Sample(num_outputs * config_.vocab_size * DTypeBytes(DType::kF32)).us +
                   kHostUsPerSequence * static_cast<double>(num_outputs);
  if (op_costs_.profile().has_gpu()) {
    alone->host_memory_us = (alone->cpu_bytes + alone->h2d_bytes) /
                            op_costs_.profile().host.shared_bytes_per_s * kUsPerSecond;
  }
  return task_us;
}

StepPrediction StepPredictor::PredictStretched(const StepPlan& plan, std::vector<double> task_us,
                                               double host_stretch,
                                               const StepPrediction& alone) const {
  const double copy_stretch = StretchOfCopies(alone);
  for (size_t i = 0; i < task_us.size(); ++i) {
    const Lane lane = TaskLane(plan.tasks[i].kind);
    if (lane == Lane::kHostToDevice) task_us[i] *= copy_stretch;
    if (lane == Lane::kCpu) task_us[i] *= host_stretch;
  }
  const LanePrediction lanes = PredictSteadyStep(plan, task_us, alone.host_us);
  StepPrediction prediction = alone;
  prediction.busy_us = lanes.busy_us;
  prediction.step_us = std::max(lanes.step_us, alone.host_memory_us);
  return prediction;
}

StepPrediction StepPredictor::Predict(const StepPlan& plan, const BatchShape& batch,
                                      const WeightStream& weights, int64_t page_bytes) const {
  StepPrediction alone;
  const std::vector<double> task_us = CostTasks(plan, batch, weights, page_bytes, &alone);
  // The longer a step, the less its copies take from the host's kernels, and the shorter it is: the
  // step that fits what it assumes lies between two.
  StepPrediction prediction = PredictStretched(plan, task_us, 1, alone);
  double low_us = prediction.step_us;
  const double stretch = StretchOfHost(alone, low_us);
  if (stretch == 1) return prediction;
  prediction = PredictStretched(plan, task_us, stretch, alone);
  double high_us = prediction.step_us;
  for (int i = 0; i < kContentionSteps && high_us - low_us > kContentionShare * low_us; ++i) {
    const double middle_us = (low_us + high_us) / 2;
    prediction = PredictStretched(plan, task_us, StretchOfHost(alone, middle_us), alone);
    (prediction.step_us > middle_us ? low_us : high_us) = middle_us;
  }
  return prediction;
}

double StepPredictor::JoulesOf(const StepPrediction& step) const {
  const PowerProfile& power = op_costs_.profile().power;
  return (power.idle_watts * step.step_us + power.gpu_watts * Busy(step, Lane::kGpu) +
          power.cpu_watts * Busy(step, Lane::kCpu) +
          power.link_watts *
              std::max(Busy(step, Lane::kHostToDevice), Busy(step, Lane::kDeviceToHost))) /
         kUsPerSecond;
}

}  // namespace moelight
