// The table of supported architectures: what is special about each config.json, and what its
// checkpoints call their tensors.
//
// One architecture is one file beside this one and one row in architectures.cc. Nothing else in
// the engine knows a model by name.
//
// Threads: constants and pure functions.
#ifndef MOELIGHT_ENGINE_MODEL_ARCHITECTURES_H_
#define MOELIGHT_ENGINE_MODEL_ARCHITECTURES_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/model/config_reader.h"
#include "engine/model/model_config.h"

namespace moelight {

// Names of a checkpoint's tensors, as patterns for absl::Substitute: $0 is the layer, $1 the
// expert. Shapes are [output features, input features], norms [features].
struct TensorNames {
  absl::string_view embed = "model.embed_tokens.weight";  // [vocab_size, hidden_size]
  absl::string_view final_norm = "model.norm.weight";
  absl::string_view lm_head = "lm_head.weight";  // not read with tie_word_embeddings
  absl::string_view attn_norm = "model.layers.$0.input_layernorm.weight";
  absl::string_view q = "model.layers.$0.self_attn.q_proj.weight";
  absl::string_view k = "model.layers.$0.self_attn.k_proj.weight";
  absl::string_view v = "model.layers.$0.self_attn.v_proj.weight";
  absl::string_view o = "model.layers.$0.self_attn.o_proj.weight";
  absl::string_view q_norm = "model.layers.$0.self_attn.q_norm.weight";  // with use_qk_norm
  absl::string_view k_norm = "model.layers.$0.self_attn.k_norm.weight";
  absl::string_view ffn_norm = "model.layers.$0.post_attention_layernorm.weight";
  absl::string_view dense_gate = "model.layers.$0.mlp.gate_proj.weight";
  absl::string_view dense_up = "model.layers.$0.mlp.up_proj.weight";
  absl::string_view dense_down = "model.layers.$0.mlp.down_proj.weight";
  absl::string_view router = "model.layers.$0.mlp.gate.weight";  // [num_experts, hidden_size]
  absl::string_view expert_gate = "model.layers.$0.mlp.experts.$1.gate_proj.weight";
  absl::string_view expert_up = "model.layers.$0.mlp.experts.$1.up_proj.weight";
  absl::string_view expert_down = "model.layers.$0.mlp.experts.$1.down_proj.weight";
  // All experts of a layer in one tensor each, as transformers 5 holds them in memory. Where set,
  // they take the place of the three above.
  // [num_experts, 2 * moe_intermediate_size, hidden_size], gate rows first
  absl::string_view fused_gate_up = "";
  // [num_experts, hidden_size, moe_intermediate_size]
  absl::string_view fused_down = "";
};

// transformers 5's own names, which save_pretrained writes when told not to restore the original
// format. The same for every architecture in the table.
inline constexpr TensorNames kFusedExpertNames = {
    .fused_gate_up = "model.layers.$0.mlp.experts.gate_up_proj",
    .fused_down = "model.layers.$0.mlp.experts.down_proj",
};

struct Architecture {
  absl::string_view name;  // config.json's architectures[0]
  // Fills what ParseModelConfig leaves: FFN sizes, experts, layer_ffn, sliding_window, use_qk_norm.
  absl::Status (*parse)(const ConfigReader& config, ModelConfig& model);
  // The spellings found in checkpoints, the published one first. Never empty.
  absl::Span<const TensorNames> tensor_names;
};

extern const Architecture kMixtral;   // mixtral.cc
extern const Architecture kQwen3Moe;  // qwen3_moe.cc

absl::Span<const Architecture* const> Architectures();

// Errors: Unimplemented naming it and those that are supported.
absl::StatusOr<const Architecture*> FindArchitecture(absl::string_view name);

// Ranges that the overflow bound of ParseModelConfig relies on.
inline constexpr IntRange kHiddenSizeRange = {.min = 1, .max = 1 << 17};
inline constexpr IntRange kIntermediateSizeRange = {.min = 1, .max = 1 << 18};
inline constexpr IntRange kNumExpertsRange = {.min = 1, .max = 1 << 12};

// `num_experts` or `num_local_experts` (both names are written for several architectures) and
// `num_experts_per_tok`.
absl::Status ParseExpertCounts(const ConfigReader& config, ModelConfig& model);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_ARCHITECTURES_H_
