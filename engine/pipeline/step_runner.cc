#include "engine/pipeline/step_runner.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/pipeline/expert_groups.h"
#include "engine/pipeline/plan_validator.h"
#include "engine/pipeline/weight_stream.h"

namespace moelight {
namespace {

// Plans kept, all made anew when there are more; one of 32 layers and 4 micro-batches is about
// 100 KiB.
constexpr size_t kMaxPlans = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<StepRunner>> StepRunner::Create(const StepRunnerOptions& options,
                                                               const ForwardPassParts& parts) {
  ASSIGN_OR_RETURN(std::unique_ptr<Activations> activations,
                   Activations::Create(parts.config, options.activations, parts.device));
  return std::unique_ptr<StepRunner>(new StepRunner(options, parts, std::move(activations)));
}

StepRunner::StepRunner(const StepRunnerOptions& options, const ForwardPassParts& parts,
                       std::unique_ptr<Activations> activations)
    : options_(options),
      parts_(parts),
      weight_stream_(parts.experts == nullptr ? WeightStream()
                                              : StreamOf(parts.experts->options())),
      activations_(std::move(activations)),
      forward_pass_(parts_, weight_stream_, *activations_),
      executor_(parts.device) {}

absl::StatusOr<const ShapedPlan*> StepRunner::PlanFor(const Batch& batch) {
  PlanShape shape;
  shape.num_layers = parts_.config.num_hidden_layers;
  shape.num_micro_batches = static_cast<int32_t>(batch.micro_batches().size());
  shape.micro_batches_per_group = MicroBatchesPerGroup(
      shape.num_micro_batches, options_.cut.max_group_rows,
      [&batch](int32_t j) { return int64_t{batch.micro_batches()[j].num_rows()}; });
  shape.host_attention = false;
  for (const MicroBatch& part : batch.micro_batches()) {
    shape.host_attention |= part.has_host_rows();
    shape.device_attention |= part.has_device_rows();
    shape.load_kv |= !batch.kv_loads(part).empty();
  }
  const PlanKey key = {shape.num_micro_batches, shape.micro_batches_per_group, shape.host_attention,
                       shape.device_attention, shape.load_kv};
  if (plans_.size() >= kMaxPlans && plans_.find(key) == plans_.end()) plans_.clear();
  std::unique_ptr<ShapedPlan>& plan = plans_[key];
  if (plan == nullptr) {
    shape.weights = weight_stream_;
    auto made = std::make_unique<ShapedPlan>();
    made->shape = std::move(shape);
    made->plan = options_.schedule->build(made->shape);
    RETURN_IF_ERROR(ValidatePlan(made->plan, made->shape));
    plan = std::move(made);
  }
  return plan.get();
}

absl::StatusOr<StepResult> StepRunner::Run(Batch* batch) {
  batch->Cut(options_.cut);
  ASSIGN_OR_RETURN(const ShapedPlan* plan, PlanFor(*batch));
  forward_pass_.BeginStep(batch);
  StepResult result;
  ASSIGN_OR_RETURN(result.times, executor_.Run(plan->plan, forward_pass_));
  forward_pass_.EndStep();
  if (parts_.experts != nullptr) parts_.experts->EndStep();
  result.plan = plan;
  result.timings = executor_.timings();
  result.h2d_bytes = forward_pass_.h2d_bytes();
  result.d2h_bytes = forward_pass_.d2h_bytes();
  return result;
}

absl::Span<float> StepRunner::logits(int32_t i) {
  const int64_t vocab_size = parts_.config.vocab_size;
  return absl::MakeSpan(activations_->logits.as<float>() + i * vocab_size, vocab_size);
}

}  // namespace moelight
