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

}  // namespace

int64_t KvPagesPerSequence(const WorkloadHint& workload, int32_t kv_page_tokens) {
  return CeilDiv(int64_t{workload.mean_prompt_tokens} + workload.num_output_tokens, kv_page_tokens);
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

absl::StatusOr<PlanEvaluation> PlanEvaluator::Evaluate(const EnginePlan& plan,
                                                       const WorkloadHint& workload) {
  const StepPredictor predictor(config_, FormatsOf(plan), profile_);
  const int64_t pages_per_sequence = KvPagesPerSequence(workload, plan.kv_cache.page_tokens);
  PlanEvaluation evaluation;
  evaluation.num_sequences = std::min<int64_t>(plan.scheduler.max_running_sequences,
                                               plan.kv_cache.num_pages / pages_per_sequence);
  if (evaluation.num_sequences == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("a sequence of ", workload.mean_prompt_tokens + workload.num_output_tokens,
                     " tokens needs ", pages_per_sequence, " KV pages, and there are ",
                     plan.kv_cache.num_pages));
  }
  const double n = static_cast<double>(evaluation.num_sequences);
  StepLoad load;
  load.num_decode = evaluation.num_sequences;
  load.mean_context = workload.mean_prompt_tokens + workload.num_output_tokens / 2.0;
  evaluation.decode = PredictLoad(plan, load, predictor);
  evaluation.num_micro_batches =
      static_cast<int64_t>(EvenShape(load, plan.cut, config_.sliding_window).micro_batches.size());

  // Of prompt tokens there are n * mean for every `num_output_tokens` steps. A step carries what
  // the limit leaves beside the decode tokens, and at least the one prompt that runs alone
  // otherwise.
  const double prompt_tokens = n * workload.mean_prompt_tokens;
  const double room =
      std::max<double>(workload.mean_prompt_tokens, plan.scheduler.max_step_tokens - n);
  const double num_mixed = prompt_tokens / std::min(room, prompt_tokens);
  const double outputs = workload.num_output_tokens;
  load.prompt_tokens = workload.mean_prompt_tokens;
  load.num_prompts = std::min(room, prompt_tokens) / workload.mean_prompt_tokens;
  load.num_decode = std::max<int64_t>(1, std::llround(n - load.num_prompts));
  evaluation.mixed = PredictLoad(plan, load, predictor);
  // More steps with prompts than a sequence has steps: places stand empty, waiting for prompts.
  const double steps_per_wave = std::max(outputs, num_mixed);
  evaluation.mixed_share = num_mixed / steps_per_wave;
  const double wave_us = num_mixed * evaluation.mixed.step_us +
                         (steps_per_wave - num_mixed) * evaluation.decode.step_us;
  // While the first wave comes in, half of the places are empty on average; and so at the end.
  const double ramp_us = num_mixed * evaluation.mixed.step_us;
  const double job_us = kWavesPerJob * wave_us + ramp_us;
  evaluation.tokens_per_s = kWavesPerJob * n * outputs / job_us * kUsPerSecond;
  evaluation.bound_tokens_per_s = n / evaluation.decode.bound_us() * kUsPerSecond;
  const double wave_joules = num_mixed * predictor.JoulesOf(evaluation.mixed) +
                             (steps_per_wave - num_mixed) * predictor.JoulesOf(evaluation.decode);
  evaluation.joules_per_token = wave_joules / (n * outputs);
  return evaluation;
}

}  // namespace moelight
