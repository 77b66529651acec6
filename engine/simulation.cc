// Engine::Simulate(): the scheduler, the schedules, the executor and the forward pass as they are,
// over memory that is only addresses, on the simulated machine of a hardware profile.
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>
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

  absl::StatusOr<SimulatedRun> Run(absl::Span<const SimulatedRequest> requests);

 private:
  explicit Simulation(Decision decision) : decision_(std::move(decision)) {}
  absl::Status Place();
  // Makes their sequences, which join the scheduler at their steps.
  absl::Status Admit(absl::Span<const SimulatedRequest> requests);
  absl::Status Step(SimulatedRun* run);
  void EndSequences(SimulatedRun* run);
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

  struct Running {
    Sequence sequence;
    int32_t num_tokens_at_end = 0;
  };
  std::deque<Running> sequences_;              // by request
  std::multimap<int64_t, Running*> arrivals_;  // by step, to come
  absl::flat_hash_map<const Sequence*, int64_t> request_of_;
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

absl::Status Simulation::Admit(absl::Span<const SimulatedRequest> requests) {
  sequences_.resize(requests.size());
  for (size_t i = 0; i < sequences_.size(); ++i) {
    const SimulatedRequest& request = requests[i];
    if (request.num_output_tokens < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(request.num_output_tokens, " output tokens, must be at least 1"));
    }
    Sequence& sequence = sequences_[i].sequence;
    // Prompts differ behind what they share: the first of those tokens names the request.
    sequence.tokens.assign(request.num_prompt_tokens, static_cast<TokenId>(i + 1));
    const int32_t num_shared =
        std::min(request.num_shared_prompt_tokens, request.num_prompt_tokens);
    std::fill_n(sequence.tokens.begin(), num_shared, 0);
    sequence.num_prompt_tokens = request.num_prompt_tokens;
    sequence.ends_at_max = request.max_output_tokens == 0;
    sequence.max_tokens_total =
        request.num_prompt_tokens + std::max(request.num_output_tokens, request.max_output_tokens);
    sequence.group = request.group;
    sequences_[i].num_tokens_at_end = request.num_prompt_tokens + request.num_output_tokens;
    if (sequence.max_tokens_total > decision_.plan.max_model_len) {
      return absl::InvalidArgumentError(
          absl::StrCat("a prompt of ", request.num_prompt_tokens, " tokens and ",
                       sequence.max_tokens_total - request.num_prompt_tokens,
                       " more are above the limit of ", decision_.plan.max_model_len));
    }
    RETURN_IF_ERROR(scheduler_->CheckFits(sequence));
    arrivals_.emplace(request.arrives_at_step, &sequences_[i]);
    request_of_.emplace(&sequence, static_cast<int64_t>(i));
  }
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
  SimulatedStep step;
  step.num_sequences = batch_.num_sequences();
  step.num_generated_tokens = batch_.num_outputs();
  step.num_prompt_tokens = batch_.num_prefill_tokens();
  step.num_kv_pages_used = kv_cache_->num_pages() - kv_cache_->num_free_pages();
  step.us = clock.host_us() - begin_us;
  step.predicted_us = prediction.step_us;
  step.lane_us = result.times.busy_us;
  step.predicted_lane_us = prediction.busy_us;
  run->steps.push_back(step);
  EndSequences(run);
  return absl::OkStatus();
}

void Simulation::EndSequences(SimulatedRun* run) {
  for (int32_t i = 0; i < batch_.num_outputs(); ++i) {
    Sequence* sequence = batch_.output(i);
    sequence->tokens.push_back(0);
    const int64_t request = request_of_.at(sequence);
    if (sequence->num_tokens() < sequences_[request].num_tokens_at_end) continue;
    scheduler_->Remove(sequence, /*ended=*/true);
    run->end_steps[request] = static_cast<int64_t>(run->steps.size()) - 1;
  }
}

void Simulation::Summarize(SimulatedRun* run) {
  for (const SimulatedStep& step : run->steps) {
    run->seconds += step.us / kUsPerSecond;
    run->peak_sequences = std::max(run->peak_sequences, step.num_sequences);
    run->num_generated_tokens += step.num_generated_tokens;
    run->num_prompt_tokens += step.num_prompt_tokens;
    for (int lane = 0; lane < kNumLanes; ++lane) run->lane_busy_us[lane] += step.lane_us[lane];
  }
  run->num_steps = static_cast<int64_t>(run->steps.size());
  int64_t num_full = 0;
  for (const SimulatedStep& step : run->steps) {
    if (step.num_prompt_tokens > 0 || step.num_sequences < kFullShare * run->peak_sequences)
      continue;
    run->decode_step_us += step.us;
    run->decode_predicted_us += step.predicted_us;
    ++num_full;
  }
  if (num_full == 0) return;
  run->decode_step_us /= static_cast<double>(num_full);
  run->decode_predicted_us /= static_cast<double>(num_full);
}

absl::StatusOr<SimulatedRun> Simulation::Run(absl::Span<const SimulatedRequest> requests) {
  RETURN_IF_ERROR(Admit(requests));
  SimulatedRun run;
  run.end_steps.resize(requests.size(), -1);
  run.num_kv_pages = kv_cache_->num_pages();
  while (!arrivals_.empty() || scheduler_->num_waiting() + scheduler_->num_running() > 0) {
    // Nothing happens until the next one arrives, if nothing is there.
    const bool is_idle = scheduler_->num_waiting() + scheduler_->num_running() == 0;
    const int64_t now = static_cast<int64_t>(run.steps.size());
    const int64_t until = is_idle ? std::max(now, arrivals_.begin()->first) : now;
    while (!arrivals_.empty() && arrivals_.begin()->first <= until) {
      scheduler_->Add(&arrivals_.begin()->second->sequence);
      arrivals_.erase(arrivals_.begin());
    }
    RETURN_IF_ERROR(Step(&run));
  }
  const SchedulerCounters& counters = scheduler_->counters();
  run.num_preempted_sequences = counters.num_preempted;
  run.num_recomputed_tokens = counters.num_recomputed_tokens;
  run.num_shared_prompt_tokens = counters.num_shared_tokens;
  Summarize(&run);
  return run;
}

}  // namespace

absl::StatusOr<SimulatedRun> Engine::Simulate(const EngineOptions& options,
                                              absl::Span<const SimulatedRequest> requests) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Simulation> simulation, Simulation::Create(options));
  return simulation->Run(requests);
}

absl::StatusOr<SimulatedRun> Engine::Simulate(const EngineOptions& options,
                                              absl::Span<const int32_t> prompt_lengths,
                                              int32_t num_output_tokens) {
  if (num_output_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(num_output_tokens, " output tokens, must be at least 1"));
  }
  std::vector<SimulatedRequest> requests;
  for (const int32_t length : prompt_lengths) requests.push_back({length, num_output_tokens});
  return Simulate(options, requests);
}

}  // namespace moelight
