#include "engine/plan_evaluation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/ceil_div.h"
#include "engine/base/status_macros.h"
#include "engine/pipeline/weight_stream.h"

namespace moelight {
namespace {

constexpr double kUsPerSecond = 1e6;
// A layer's pages in a plan that is only predicted with: fine enough to tell how much of a layer
// the ring takes ahead.
constexpr int64_t kPredictedPages = 16;
// Where pages limit the batch, answers of one length that began together end together, and pages
// stand empty until others have come in behind them. In simulated jobs of mtbench with 1.1, 1.25
// and 2.1 places for each sequence that the pages hold, 92, 96 and 97 percent of those ran; with
// room in a step for 1.2, 2.4 and 8 times the prompt tokens of a steady stream, 85, 90 and 96. That
// was before StartPace, with which 97 ran in all of these: predictions are 3 to 11 percent low.
constexpr double kFillLossByPlaces = 0.07;
constexpr double kFillLossByRoom = 0.14;
// What is computed again then, of all prompt and decode tokens: 0.18 to 0.25 in the same jobs. With
// a limit below that, so many sequences run as if pages were reserved.
constexpr double kEagerRecomputeShare = 0.2;

// The stream with fewer, larger pages, the same number in every layer that has experts, and the
// bytes of such a page.
struct CoarseStream {
  WeightStream stream;
  int64_t page_bytes = 0;
};

CoarseStream Coarsen(const ExpertStoreOptions& experts) {
  CoarseStream coarse;
  if (experts.num_ring_slots == 0) return coarse;
  const int32_t num_layers = static_cast<int32_t>(experts.layer_pages.size());
  int64_t num_pages = 0;
  int64_t num_streaming_layers = 0;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    num_pages += experts.streamed_pages(layer);
    if (experts.layer_pages[layer] > 0) ++num_streaming_layers;
  }
  const double pages_per_layer = static_cast<double>(num_pages) / num_streaming_layers;
  const int64_t coarse_pages =
      std::clamp<int64_t>(static_cast<int64_t>(pages_per_layer), 1, kPredictedPages);
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    coarse.stream.layer_pages.push_back(experts.layer_pages[layer] > 0 ? coarse_pages : 0);
  }
  coarse.stream.num_ring_slots = std::max<int64_t>(
      coarse_pages,
      std::llround(static_cast<double>(experts.num_ring_slots * coarse_pages) / pages_per_layer));
  coarse.stream.num_parts =
      static_cast<int32_t>(std::min<int64_t>(StreamOf(experts).num_parts, coarse_pages));
  coarse.page_bytes = num_pages * experts.page_bytes / (num_streaming_layers * coarse_pages);
  return coarse;
}

// Sequences that the pages hold if all are at their longest.
double ReservedSequences(const EnginePlan& plan, const WorkloadHint& workload) {
  const int64_t num_tokens = int64_t{workload.mean_prompt_tokens} + workload.num_output_tokens;
  return static_cast<double>(plan.kv_cache.num_pages /
                             CeilDiv(num_tokens, plan.kv_cache.page_tokens));
}

}  // namespace

double PageLimitedSequences(const EnginePlan& plan, const WorkloadHint& workload) {
  const double reserved = ReservedSequences(plan, workload);
  if (reserved == 0 || plan.scheduler.reserve_pages ||
      plan.scheduler.max_recompute_share < kEagerRecomputeShare) {
    return reserved;
  }
  // Over its life a sequence has half of its answer on average, and half of its last page is empty.
  const double page_tokens = plan.kv_cache.page_tokens;
  const double mean_tokens = workload.mean_prompt_tokens + workload.num_output_tokens / 2.0;
  return std::max(1.0,
                  static_cast<double>(plan.kv_cache.num_pages) / (mean_tokens / page_tokens + 0.5));
}

StorageFormats FormatsOf(const EnginePlan& plan) {
  return {plan.weights, plan.activations.dtype, plan.kv_cache, plan.experts.page_bytes};
}

const StepPlan& PlanEvaluator::PlanFor(const Schedule& schedule, const PlanShape& shape) {
  const int64_t num_pages =
      shape.weights.layer_pages.empty()
          ? 0
          : *std::max_element(shape.weights.layer_pages.begin(), shape.weights.layer_pages.end());
  const PlanKey key = {&schedule,
                       shape.num_micro_batches,
                       shape.micro_batches_per_group,
                       shape.host_attention,
                       shape.device_attention,
                       shape.load_kv,
                       num_pages,
                       shape.weights.num_ring_slots};
  auto it = plans_.find(key);
  if (it == plans_.end()) it = plans_.emplace(key, schedule.build(shape)).first;
  return it->second;
}

StepPrediction PlanEvaluator::PredictLoad(const EnginePlan& plan, const StepLoad& load,
                                          const StepPredictor& predictor) {
  const BatchShape batch = EvenShape(load, plan.cut, config_.sliding_window);
  const CoarseStream coarse = Coarsen(plan.experts);
  const PlanShape shape = PlanShapeFor(batch, plan.cut, config_.num_hidden_layers, coarse.stream);
  return predictor.Predict(PlanFor(*plan.schedule, shape), batch, coarse.stream, coarse.page_bytes);
}

SteadyLoad PlanEvaluator::SteadyLoadOf(const EnginePlan& plan, const WorkloadHint& workload) {
  const SchedulerOptions& scheduler = plan.scheduler;
  const double prompt = workload.mean_prompt_tokens;
  const double output = workload.num_output_tokens;
  const double page_limit = PageLimitedSequences(plan, workload);
  const double places = scheduler.max_running_sequences;
  SteadyLoad load;
  load.mean_context = prompt + output / 2;
  load.num_sequences = std::min(places, page_limit);
  load.prompt_tokens_per_sequence = prompt;
  const double reserved = ReservedSequences(plan, workload);
  const bool recomputes = reserved < page_limit && reserved < places;
  if (recomputes) load.prompt_tokens_per_sequence += kEagerRecomputeShare * (prompt + output);
  if (!scheduler.mix_prompts) return load;
  // For each decode token, a step carries a sequence's share of its prompt. One that cannot carry
  // both keeps places empty.
  const double prompt_rows = load.prompt_tokens_per_sequence / output;
  load.num_sequences = std::min(load.num_sequences, scheduler.max_step_tokens / (1 + prompt_rows));
  if (recomputes) {
    const double room =
        (scheduler.max_step_tokens - load.num_sequences) / (load.num_sequences * prompt_rows);
    const double fill =
        1 - kFillLossByPlaces / std::max(1.0, places / page_limit) - kFillLossByRoom / room;
    load.num_sequences = std::min(load.num_sequences, page_limit * fill);
  }
  load.num_sequences = std::max(1.0, load.num_sequences);
  return load;
}

StepPrediction PlanEvaluator::PredictMixed(const EnginePlan& plan, const SteadyLoad& steady,
                                           const WorkloadHint& workload,
                                           const StepPredictor& predictor) {
  StepLoad load;
  load.mean_context = steady.mean_context;
  load.prompt_tokens = workload.mean_prompt_tokens;
  if (plan.scheduler.mix_prompts) {
    load.num_decode = std::llround(steady.num_sequences);
    load.num_prompts = steady.num_sequences * steady.prompt_tokens_per_sequence /
                       (workload.num_output_tokens * load.prompt_tokens);
  } else {
    load.num_prompts = std::max(1.0, plan.scheduler.max_step_tokens / load.prompt_tokens);
  }
  return PredictLoad(plan, load, predictor);
}

absl::StatusOr<PlanEvaluation> PlanEvaluator::Evaluate(const EnginePlan& plan,
                                                       const WorkloadHint& workload) {
  const StepPredictor predictor(config_, FormatsOf(plan), profile_);
  const double page_limit = PageLimitedSequences(plan, workload);
  if (page_limit == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("a sequence of ", workload.mean_prompt_tokens + workload.num_output_tokens,
                     " tokens does not fit into ", plan.kv_cache.num_pages, " KV pages"));
  }
  const double most = std::min<double>(plan.scheduler.max_running_sequences, page_limit);
  const SteadyLoad steady = SteadyLoadOf(plan, workload);
  PlanEvaluation evaluation;
  evaluation.num_sequences = std::llround(steady.num_sequences);
  StepLoad load;
  load.num_decode = evaluation.num_sequences;
  load.mean_context = steady.mean_context;
  evaluation.decode = PredictLoad(plan, load, predictor);
  evaluation.num_micro_batches =
      static_cast<int64_t>(EvenShape(load, plan.cut, config_.sliding_window).micro_batches.size());
  evaluation.mixed = PredictMixed(plan, steady, workload, predictor);

  const double n = steady.num_sequences;
  const double outputs = workload.num_output_tokens;
  // Steps that bring in one prompt for every sequence, one after the other.
  const double num_prompt_steps =
      std::ceil(n * workload.mean_prompt_tokens / plan.scheduler.max_step_tokens);
  double wave_us = outputs * evaluation.mixed.step_us;
  double wave_joules = outputs * predictor.JoulesOf(evaluation.mixed);
  if (!plan.scheduler.mix_prompts) {
    wave_us = outputs * evaluation.decode.step_us + num_prompt_steps * evaluation.mixed.step_us;
    wave_joules = outputs * predictor.JoulesOf(evaluation.decode) +
                  num_prompt_steps * predictor.JoulesOf(evaluation.mixed);
  }
  // While the first wave comes in, half of the places are empty on average.
  const double ramp_us = num_prompt_steps * evaluation.mixed.step_us / 2;
  evaluation.tokens_per_s =
      kWavesPerJob * n * outputs / (kWavesPerJob * wave_us + ramp_us) * kUsPerSecond;
  // All pages in use, nothing ever waits, nothing is computed twice.
  evaluation.bound_tokens_per_s = most / evaluation.decode.bound_us() * kUsPerSecond;
  evaluation.joules_per_token = wave_joules / (n * outputs);
  return evaluation;
}

}  // namespace moelight
