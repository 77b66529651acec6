#include "engine/model/model_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/model/architectures.h"
#include "engine/model/file.h"

namespace moelight {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{4} << 20;  // published ones are below 64 KiB

// Settings that change what the model computes in ways the ops do not. They must be absent, null,
// or the value given, as JSON text.
struct FixedSetting {
  absl::string_view field;
  absl::string_view only;
};
constexpr FixedSetting kFixedSettings[] = {
    {"attention_bias", "false"},     {"mlp_bias", "false"},
    {"quantization_config", "null"}, {"partial_rotary_factor", "1.0"},
    {"is_encoder_decoder", "false"},
};

absl::Status CheckFixedSettings(const nlohmann::json& object, const ConfigReader& config) {
  for (const FixedSetting& setting : kFixedSettings) {
    const auto it = object.find(std::string(setting.field));
    if (it == object.end() || it->is_null()) continue;
    if (*it != nlohmann::json::parse(setting.only)) {
      return absl::UnimplementedError(
          config.Invalid(setting.field, absl::StrCat("only ", setting.only, " is supported"))
              .message());
    }
  }
  ASSIGN_OR_RETURN(const std::string act, config.StringOr("hidden_act", "silu"));
  if (act != "silu" && act != "swish") {
    return absl::UnimplementedError(
        config.Invalid("hidden_act", "only \"silu\" is supported").message());
  }
  return absl::OkStatus();
}

absl::StatusOr<DType> ParseDType(const ConfigReader& config) {
  constexpr std::pair<absl::string_view, DType> kDTypes[] = {
      {"bfloat16", DType::kBF16}, {"float16", DType::kF16}, {"float32", DType::kF32}};
  const absl::string_view field = config.Has("dtype") ? "dtype" : "torch_dtype";
  ASSIGN_OR_RETURN(const std::string name, config.StringOr(field, "float32"));
  for (const auto& [known, dtype] : kDTypes) {
    if (name == known) return dtype;
  }
  return absl::UnimplementedError(
      config.Invalid(field, "supported are bfloat16, float16 and float32").message());
}

absl::Status ParseHeads(const ConfigReader& config, ModelConfig& model) {
  const IntRange heads = {.min = 1, .max = 4096};
  ASSIGN_OR_RETURN(model.num_attention_heads, config.Int("num_attention_heads", heads));
  // Null or absent: one key-value head per query head.
  ASSIGN_OR_RETURN(const std::optional<int64_t> kv_heads,
                   config.OptionalInt("num_key_value_heads", heads));
  model.num_key_value_heads = kv_heads.value_or(model.num_attention_heads);
  if (model.num_attention_heads % model.num_key_value_heads != 0) {
    return config.Invalid("num_key_value_heads", absl::StrCat("must divide num_attention_heads ",
                                                              model.num_attention_heads));
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> head_dim,
                   config.OptionalInt("head_dim", {.min = 2, .max = 4096}));
  if (!head_dim.has_value() && model.hidden_size % model.num_attention_heads != 0) {
    return config.Invalid(
        "num_attention_heads",
        absl::StrCat("must divide hidden_size ", model.hidden_size, " where head_dim is absent"));
  }
  model.head_dim = head_dim.value_or(model.hidden_size / model.num_attention_heads);
  if (model.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        config.source(), ": head_dim is ", model.head_dim, ", must be even for rotary embedding"));
  }
  return absl::OkStatus();
}

// The fields that every supported architecture has and spells alike. The bounds keep
// layers * experts * 3 * hidden * intermediate * 4 bytes = 2^10 * 2^12 * 2^2 * 2^17 * 2^18 * 2^2
// = 2^61 inside int64_t; all other products are far smaller.
absl::Status ParseCommonFields(const ConfigReader& config, ModelConfig& model) {
  ASSIGN_OR_RETURN(model.model_type, config.StringOr("model_type", ""));
  ASSIGN_OR_RETURN(model.vocab_size, config.Int("vocab_size", {.min = 1, .max = 1 << 24}));
  ASSIGN_OR_RETURN(model.hidden_size, config.Int("hidden_size", kHiddenSizeRange));
  ASSIGN_OR_RETURN(model.num_hidden_layers,
                   config.Int("num_hidden_layers", {.min = 1, .max = 1 << 10}));
  RETURN_IF_ERROR(ParseHeads(config, model));
  ASSIGN_OR_RETURN(model.rms_norm_eps,
                   config.Number("rms_norm_eps", {.min = 0, .max = 1, .min_excluded = true}));
  ASSIGN_OR_RETURN(model.tie_word_embeddings, config.BoolOr("tie_word_embeddings", false));
  ASSIGN_OR_RETURN(const int64_t positions,
                   config.Int("max_position_embeddings", {.min = 1, .max = 1 << 30}));
  ASSIGN_OR_RETURN(model.rope, ParseRopeConfig(config));
  model.max_position_embeddings = RopeMaxPositions(model.rope, positions);
  ASSIGN_OR_RETURN(model.dtype, ParseDType(config));
  ASSIGN_OR_RETURN(const std::vector<int64_t> eos,
                   config.IntList("eos_token_id", {.min = 0, .max = model.vocab_size - 1}));
  model.eos_token_ids.assign(eos.begin(), eos.end());
  return absl::OkStatus();
}

absl::StatusOr<const Architecture*> ParseArchitecture(const ConfigReader& config) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, config.StringList("architectures"));
  if (names.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.source(), ": architectures is missing or empty"));
  }
  absl::StatusOr<const Architecture*> architecture = FindArchitecture(names.front());
  if (!architecture.ok()) {
    return absl::Status(architecture.status().code(),
                        absl::StrCat(config.source(), ": ", architecture.status().message()));
  }
  return architecture;
}

// Parameters of all layers when `experts_per_layer` experts of each MoE layer count.
int64_t CountParameters(const ModelConfig& config, int64_t experts_per_layer) {
  const HeadGeometry heads = config.heads();
  const int64_t hidden = config.hidden_size;
  const int64_t attention = hidden * (heads.qkv_size() + heads.q_size()) +
                            (config.use_qk_norm ? 2 * int64_t{config.head_dim} : 0);
  const int64_t norms = 2 * hidden;
  const int64_t num_moe = config.num_moe_layers();
  const int64_t moe =
      hidden * config.num_experts + experts_per_layer * 3 * hidden * config.moe_intermediate_size;
  const int64_t dense = 3 * hidden * config.intermediate_size;
  const int64_t vocabulary = hidden * config.vocab_size * (config.tie_word_embeddings ? 1 : 2);
  return vocabulary + hidden + config.num_hidden_layers * (attention + norms) + num_moe * moe +
         (config.num_hidden_layers - num_moe) * dense;
}

}  // namespace

HeadGeometry ModelConfig::heads() const {
  return {num_attention_heads, num_key_value_heads, head_dim};
}

int ModelConfig::num_moe_layers() const {
  return static_cast<int>(std::count(layer_ffn.begin(), layer_ffn.end(), FfnKind::kMoe));
}

float ModelConfig::attention_scale() const {
  return static_cast<float>(rope.attention_factor * rope.attention_factor /
                            std::sqrt(static_cast<double>(head_dim)));
}

int64_t ModelConfig::num_parameters() const { return CountParameters(*this, num_experts); }

int64_t ModelConfig::num_active_parameters() const {
  return CountParameters(*this, num_experts_per_tok);
}

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json,
                                             absl::string_view source_name) {
  ASSIGN_OR_RETURN(const nlohmann::json object,
                   ParseJson(json, source_name, {.max_bytes = kMaxConfigBytes}));
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source_name, ": must be a JSON object"));
  }
  const ConfigReader config(object, source_name);
  ModelConfig model;
  // First, so that a model of another kind is refused by its name and not by some field it lacks.
  ASSIGN_OR_RETURN(const Architecture* architecture, ParseArchitecture(config));
  model.architecture = std::string(architecture->name);
  RETURN_IF_ERROR(CheckFixedSettings(object, config));
  RETURN_IF_ERROR(ParseCommonFields(config, model));
  RETURN_IF_ERROR(architecture->parse(config, model));
  return model;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  return ParseModelConfig(text, path);
}

std::vector<float> RopeInvFreq(const ModelConfig& config) {
  return RopeInvFreq(config.rope, config.head_dim);
}

}  // namespace moelight
