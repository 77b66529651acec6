// MixtralForCausalLM (Jiang et al. 2024): every layer is MoE, gates are renormalized over the
// chosen experts, an optional sliding window.
#include "engine/base/status_macros.h"
#include "engine/model/architectures.h"

namespace moelight {
namespace {

constexpr TensorNames kNames[] = {
    {
        .router = "model.layers.$0.block_sparse_moe.gate.weight",
        .expert_gate = "model.layers.$0.block_sparse_moe.experts.$1.w1.weight",
        .expert_up = "model.layers.$0.block_sparse_moe.experts.$1.w3.weight",
        .expert_down = "model.layers.$0.block_sparse_moe.experts.$1.w2.weight",
    },
    kFusedExpertNames,
};

absl::Status Parse(const ConfigReader& config, ModelConfig& model) {
  RETURN_IF_ERROR(ParseExpertCounts(config, model));
  // There are no dense layers, so the plain name means the experts.
  ASSIGN_OR_RETURN(model.moe_intermediate_size,
                   config.Int("intermediate_size", kIntermediateSizeRange));
  model.layer_ffn.assign(model.num_hidden_layers, FfnKind::kMoe);
  // softmax over all experts, then top-k divided by their sum: the softmax over the top-k of the
  // paper. config.json has no field for it.
  model.norm_topk_prob = true;
  ASSIGN_OR_RETURN(const auto window, config.OptionalInt("sliding_window", {.min = 1}));
  model.sliding_window = window.value_or(0);
  return absl::OkStatus();
}

}  // namespace

constinit const Architecture kMixtral = {"MixtralForCausalLM", Parse, kNames};

}  // namespace moelight
