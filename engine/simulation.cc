// Engine::Simulate(): the scheduler, the schedules, the executor and the forward pass as they are,
// over memory that is only addresses, on the simulated machine of a hardware profile.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/backend/simulated/virtual_clock.h"
#include "engine/base/status_macros.h"
#include "engine/decision.h"
#include "engine/engine.h"
#include "engine/memory/expert_store.h"
#include "engine/memory/kv_cache.h"
#include "engine/model/weight_plan.h"
#include "engine/pipeline/step_runner.h"
#include "engine/plan_evaluation.h"
#include "engine/planner/step_predictor.h"
#include "engine/scheduler/scheduler.h"

namespace moelight {
namespace {

constexpr double kUsPerSecond = 1e6;
// A batch counts as full a little below its peak: places change hands between steps.
constexpr double kFullShare = 0.95;

// The parts of an engine that a simulation needs, in the order in which they depend on each other.
class Simulation {
 public:
  static absl::StatusOr<std::unique_ptr<Simulation>> Create(const EngineOptions& options);

  absl::StatusOr<SimulatedRun> Run(absl::Span<const int32_t> prompt_lengths,
                                   int32_t num_output_tokens);

 private:
  explicit Simulation(Decision decision) : decision_(std::move(decision)) {}
  absl::Status Place();
  absl::Status Step(SimulatedRun* run);
  void EndSequences();
  static void Summarize(SimulatedRun* run);

  const Decision decision_;
  std::unique_ptr<DeviceBuffer> memory_;  // of the weights
  ModelWeights weights_;
  std::unique_ptr<ExpertStore> experts_;  // null: nothing is paged
  std::unique_ptr<KvCache> kv_cache_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<StepRunner> step_runner_;
  std::unique_ptr<StepPredictor> predictor_;
  Batch batch_;
};

absl::StatusOr<std::unique_ptr<Simulation>> Simulation::Create(const EngineOptions& options) {
  EngineOptions simulated = options;
  simulated.device = Engine::kSimulatedDevice;
  ASSIGN_OR_RETURN(Decision decision, Decide(simulated));
  std::unique_ptr<Simulation> simulation(new Simulation(std::move(decision)));
  RETURN_IF_ERROR(simulation->Place());
  return simulation;
}

absl::Status Simulation::Place() {
  Backend& device = *decision_.backend;
  const EnginePlan& plan = decision_.plan;
  const WeightSizes sizes = SizeWeights(decision_.config, plan.weights);
  ASSIGN_OR_RETURN(memory_, device.AllocateDevice("the weights", sizes.bytes()));
  char* const experts_home = memory_->data() + sizes.common_bytes;
  weights_ =
      PlanWeights(decision_.config, plan.weights, TensorNames(), memory_->data(), experts_home)
          .weights;
  if (device.has_device_memory() && sizes.expert_bytes > 0) {
    ASSIGN_OR_RETURN(experts_, ExpertStore::Create(plan.experts, experts_home, device));
  }
  ASSIGN_OR_RETURN(kv_cache_, KvCache::CreateOnDevice(plan.kv_cache, device));
  scheduler_ = std::make_unique<Scheduler>(plan.scheduler, *kv_cache_);
  ASSIGN_OR_RETURN(step_runner_,
                   StepRunner::Create({plan.schedule, plan.cut, plan.activations},
                                      {decision_.config, weights_, experts_.get(), device,
                                       decision_.attention_backend(), *kv_cache_}));
  predictor_ = std::make_unique<StepPredictor>(decision_.config, FormatsOf(plan),
                                               *decision_.options.hardware);
  return absl::OkStatus();
}

absl::Status Simulation::Step(SimulatedRun* run) {
  VirtualClock& clock = *decision_.clock;
  const double begin_us = clock.host_us();
  scheduler_->NextBatch(&batch_);
  ASSIGN_OR_RETURN(const StepResult result, step_runner_->Run(&batch_));
  scheduler_->StepDone(batch_);
  const StepPrediction prediction =
      predictor_->Predict(result.plan->plan, ShapeOf(batch_, decision_.config.sliding_window),
                          result.plan->shape.weights, decision_.plan.experts.page_bytes);
  clock.AdvanceHost(prediction.host_us);
  run->steps.push_back({batch_.num_sequences(), batch_.num_prefill_tokens() > 0,
                        clock.host_us() - begin_us, prediction.step_us, result.times.busy_us,
                        prediction.busy_us});
  run->num_generated_tokens += batch_.num_outputs();
  run->num_prompt_tokens += batch_.num_prefill_tokens();
  for (int lane = 0; lane < kNumLanes; ++lane) {
    run->lane_busy_us[lane] += result.times.busy_us[lane];
  }
  EndSequences();
  return absl::OkStatus();
}

void Simulation::EndSequences() {
  for (int32_t i = 0; i < batch_.num_outputs(); ++i) {
    Sequence* sequence = batch_.output(i);
    sequence->tokens.push_back(0);
    if (sequence->num_tokens() == sequence->max_tokens_total) {
      scheduler_->Remove(sequence, /*ended=*/true);
    }
  }
}

void Simulation::Summarize(SimulatedRun* run) {
  for (const SimulatedStep& step : run->steps) {
    run->seconds += step.us / kUsPerSecond;
    run->peak_sequences = std::max(run->peak_sequences, step.num_sequences);
  }
  run->num_steps = static_cast<int64_t>(run->steps.size());
  int64_t num_full = 0;
  for (const SimulatedStep& step : run->steps) {
    if (step.has_prompts || step.num_sequences < kFullShare * run->peak_sequences) continue;
    run->decode_step_us += step.us;
    run->decode_predicted_us += step.predicted_us;
    ++num_full;
  }
  if (num_full == 0) return;
  run->decode_step_us /= static_cast<double>(num_full);
  run->decode_predicted_us /= static_cast<double>(num_full);
}

absl::StatusOr<SimulatedRun> Simulation::Run(absl::Span<const int32_t> prompt_lengths,
                                             int32_t num_output_tokens) {
  std::vector<Sequence> sequences(prompt_lengths.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    Sequence& sequence = sequences[i];
    sequence.tokens.assign(prompt_lengths[i], 0);
    sequence.num_prompt_tokens = prompt_lengths[i];
    sequence.max_tokens_total = prompt_lengths[i] + num_output_tokens;
    sequence.ends_at_max = true;
    if (sequence.max_tokens_total > decision_.plan.max_model_len) {
      return absl::InvalidArgumentError(
          absl::StrCat("a prompt of ", prompt_lengths[i], " tokens and ", num_output_tokens,
                       " more are above the limit of ", decision_.plan.max_model_len));
    }
    RETURN_IF_ERROR(scheduler_->CheckFits(sequence));
    scheduler_->Add(&sequence);
  }
  SimulatedRun run;
  while (scheduler_->num_waiting() + scheduler_->num_running() > 0) {
    RETURN_IF_ERROR(Step(&run));
  }
  Summarize(&run);
  return run;
}

}  // namespace

absl::StatusOr<SimulatedRun> Engine::Simulate(const EngineOptions& options,
                                              absl::Span<const int32_t> prompt_lengths,
                                              int32_t num_output_tokens) {
  if (num_output_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(num_output_tokens, " output tokens, must be at least 1"));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Simulation> simulation, Simulation::Create(options));
  return simulation->Run(prompt_lengths, num_output_tokens);
}

}  // namespace moelight
