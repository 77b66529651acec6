// ModelConfig: a model's shape, as its config.json gives it.
//
// Reads both spellings in use: rope_theta, rope_scaling and torch_dtype of published checkpoints,
// and rope_parameters and dtype of transformers 5. A value that passes ParseModelConfig is within
// bounds chosen so that no product of sizes overflows int64_t.
//
// Threads: plain values and pure functions.
#ifndef MOELIGHT_ENGINE_MODEL_MODEL_CONFIG_H_
#define MOELIGHT_ENGINE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/backend/ops.h"
#include "engine/base/tensor_view.h"
#include "engine/model/rope.h"
#include "engine/request.h"

namespace moelight {

enum class FfnKind : uint8_t { kMoe, kDense };

// Field names are those of config.json where it has them.
struct ModelConfig {
  std::string architecture;  // architectures[0], a row of Architectures()
  std::string model_type;
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;      // of dense layers; 0 if there are none
  int32_t moe_intermediate_size = 0;  // of one expert; 0 if all layers are dense
  int32_t num_hidden_layers = 0;
  int32_t num_attention_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t head_dim = 0;             // even
  int32_t num_experts = 0;          // per MoE layer
  int32_t num_experts_per_tok = 0;  // at most num_experts
  bool norm_topk_prob = true;       // gates of the chosen experts are made to sum to 1
  float rms_norm_eps = 0;
  int32_t sliding_window = 0;  // positions a token sees, itself included; 0: all before it
  bool use_qk_norm = false;    // RMS norm of every query and key head before rotation
  bool tie_word_embeddings = false;
  int64_t max_position_embeddings = 0;  // longest context, rope scaling included
  RopeConfig rope;
  std::vector<FfnKind> layer_ffn;      // [num_hidden_layers]
  DType dtype = DType::kF32;           // what the file says of its tensors; each also says its own
  std::vector<TokenId> eos_token_ids;  // generation_config.json goes before it

  HeadGeometry heads() const;
  bool layer_is_moe(int layer) const { return layer_ffn[layer] == FfnKind::kMoe; }
  int num_moe_layers() const;
  // Of softmax(scale * q k^T). YaRN's factor on q and on k is part of it, because it commutes with
  // the rotation.
  float attention_scale() const;
  int64_t num_parameters() const;
  int64_t num_active_parameters() const;  // that one token uses, embedding and LM head included
};

// Reads FOLDER/config.json.
// Errors: NotFound if there is none; else as ParseModelConfig.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& folder);

// Errors: InvalidArgument naming the field, its value and the rule; Unimplemented naming an
// architecture or setting that is not supported. Messages begin with `source_name`.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view source_name);

// [head_dim / 2]: see rope.h.
std::vector<float> RopeInvFreq(const ModelConfig& config);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_MODEL_CONFIG_H_
