#include "engine/pipeline/step_runner.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/pipeline/plan_validator.h"

namespace moelight {

absl::StatusOr<std::unique_ptr<StepRunner>> StepRunner::Create(const StepRunnerOptions& options,
                                                               const ModelConfig& config,
                                                               const ModelWeights& weights,
                                                               Backend& backend,
                                                               KvCache& kv_cache) {
  ASSIGN_OR_RETURN(std::unique_ptr<Activations> activations,
                   Activations::Create(config, options.activations));
  return std::unique_ptr<StepRunner>(
      new StepRunner(options, config, weights, backend, kv_cache, std::move(activations)));
}

StepRunner::StepRunner(const StepRunnerOptions& options, const ModelConfig& config,
                       const ModelWeights& weights, Backend& backend, KvCache& kv_cache,
                       std::unique_ptr<Activations> activations)
    : options_(options),
      config_(config),
      rope_inv_freq_(RopeInvFreq(config)),
      activations_(std::move(activations)),
      forward_pass_(config, weights,
                    TensorView::Make(rope_inv_freq_.data(), DType::kF32,
                                     {static_cast<int64_t>(rope_inv_freq_.size())}),
                    backend, kv_cache, *activations_),
      executor_(backend),
      plans_(options.num_micro_batches + 1) {}

absl::StatusOr<const StepPlan*> StepRunner::PlanFor(int32_t num_micro_batches) {
  std::unique_ptr<StepPlan>& plan = plans_[num_micro_batches];
  if (plan == nullptr) {
    const PlanShape shape{config_.num_hidden_layers, num_micro_batches};
    plan = std::make_unique<StepPlan>(options_.schedule->build(shape));
    RETURN_IF_ERROR(ValidatePlan(*plan, shape));
  }
  return plan.get();
}

absl::StatusOr<StepResult> StepRunner::Run(Batch* batch) {
  batch->Cut(options_.num_micro_batches);
  ASSIGN_OR_RETURN(const StepPlan* plan,
                   PlanFor(static_cast<int32_t>(batch->micro_batches().size())));
  forward_pass_.BeginStep(batch);
  StepResult result;
  ASSIGN_OR_RETURN(result.times, executor_.Run(*plan, forward_pass_));
  result.h2d_bytes = forward_pass_.h2d_bytes();
  result.d2h_bytes = forward_pass_.d2h_bytes();
  return result;
}

absl::Span<float> StepRunner::logits(int32_t i) {
  return absl::MakeSpan(activations_->logits.as<float>() + int64_t{i} * config_.vocab_size,
                        config_.vocab_size);
}

}  // namespace moelight
