// Qwen3MoeForCausalLM (Qwen3 technical report, 2025): RMS norm of every query and key head, many
// small experts, dense layers possibly mixed in.
#include <algorithm>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/model/architectures.h"

namespace moelight {
namespace {

constexpr TensorNames kNames[] = {TensorNames{}, kFusedExpertNames};

// Layer i is MoE if it is not in mlp_only_layers and (i + 1) is a multiple of decoder_sparse_step.
absl::Status ParseLayerKinds(const ConfigReader& config, ModelConfig& model) {
  ASSIGN_OR_RETURN(
      const std::vector<int64_t> mlp_only,
      config.IntList("mlp_only_layers", {.min = 0, .max = model.num_hidden_layers - 1}));
  ASSIGN_OR_RETURN(const auto step, config.OptionalInt("decoder_sparse_step", {.min = 1}));
  model.layer_ffn.clear();
  for (int64_t i = 0; i < model.num_hidden_layers; ++i) {
    const bool listed = std::find(mlp_only.begin(), mlp_only.end(), i) != mlp_only.end();
    const bool moe = !listed && (i + 1) % step.value_or(1) == 0;
    model.layer_ffn.push_back(moe ? FfnKind::kMoe : FfnKind::kDense);
  }
  return absl::OkStatus();
}

absl::Status Parse(const ConfigReader& config, ModelConfig& model) {
  RETURN_IF_ERROR(ParseExpertCounts(config, model));
  RETURN_IF_ERROR(ParseLayerKinds(config, model));
  const int num_moe = model.num_moe_layers();
  if (num_moe > 0) {
    ASSIGN_OR_RETURN(model.moe_intermediate_size,
                     config.Int("moe_intermediate_size", kIntermediateSizeRange));
  }
  if (num_moe < model.num_hidden_layers) {
    ASSIGN_OR_RETURN(model.intermediate_size,
                     config.Int("intermediate_size", kIntermediateSizeRange));
  }
  ASSIGN_OR_RETURN(model.norm_topk_prob, config.BoolOr("norm_topk_prob", false));
  ASSIGN_OR_RETURN(const bool use_window, config.BoolOr("use_sliding_window", false));
  ASSIGN_OR_RETURN(const auto window, config.OptionalInt("sliding_window", {.min = 1}));
  model.sliding_window = use_window ? window.value_or(0) : 0;
  model.use_qk_norm = true;
  return absl::OkStatus();
}

}  // namespace

constinit const Architecture kQwen3Moe = {"Qwen3MoeForCausalLM", Parse, kNames};

}  // namespace moelight
