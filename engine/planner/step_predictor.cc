#include "engine/planner/step_predictor.h"

#include <algorithm>
#include <vector>

#include "engine/planner/lane_model.h"

namespace moelight {
namespace {

constexpr double kUsPerSecond = 1e6;
// What the engine thread does for a sequence between two steps besides looking through its logits:
// its place in the batch, detokenization, stop strings.
constexpr double kHostUsPerSequence = 1.5;

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

StepPrediction StepPredictor::Predict(const StepPlan& plan, const BatchShape& batch,
                                      const WeightStream& weights, int64_t page_bytes) const {
  StepPrediction prediction;
  std::vector<double> task_us;
  task_us.reserve(plan.tasks.size());
  // Layers of one kind cost the same, and a plan has many.
  const size_t num_parts = batch.micro_batches.size();
  std::vector<OpCost> known(2 * kNumTaskKinds * num_parts);
  for (const Task& task : plan.tasks) {
    const bool is_moe = config_.layer_is_moe(task.layer);
    OpCost& cost = known[(static_cast<size_t>(task.kind) * 2 + (is_moe ? 1 : 0)) * num_parts +
                         task.micro_batch];
    if (cost.us == 0 || task.kind == TaskKind::kLoadWeights) {
      cost = task_costs_.Of(task, batch, weights, page_bytes);
    }
    task_us.push_back(cost.us);
    if (!task.ahead) Count(cost, TaskLane(task.kind), &prediction);
  }
  const double stretch = StretchOfCopies(prediction);
  for (size_t i = 0; i < task_us.size(); ++i) {
    if (TaskLane(plan.tasks[i].kind) == Lane::kHostToDevice) task_us[i] *= stretch;
  }
  const double num_sequences = static_cast<double>(batch.num_sequences());
  const int64_t logits_bytes = batch.num_sequences() * config_.vocab_size * DTypeBytes(DType::kF32);
  prediction.host_us = op_costs_.Sample(logits_bytes).us + kHostUsPerSequence * num_sequences;
  const LanePrediction lanes = PredictSteadyStep(plan, task_us, prediction.host_us);
  prediction.busy_us = lanes.busy_us;
  if (op_costs_.profile().has_gpu()) {
    prediction.host_memory_us = (prediction.cpu_bytes + prediction.h2d_bytes) /
                                op_costs_.profile().host.shared_bytes_per_s * kUsPerSecond;
  }
  prediction.step_us = std::max(lanes.step_us, prediction.host_memory_us);
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
