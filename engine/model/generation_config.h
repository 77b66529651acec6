// GenerationConfig: what a model's generation_config.json says of sampling and of where answers
// end.
//
// Threads: plain values and pure functions.
#ifndef MOELIGHT_ENGINE_MODEL_GENERATION_CONFIG_H_
#define MOELIGHT_ENGINE_MODEL_GENERATION_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/model/model_config.h"
#include "engine/request.h"

namespace moelight {

// Defaults for SamplingParams that a request leaves unset, under the same names and ranges. As in
// vLLM, `do_sample` is not among them: temperature 0 is greedy, and a file that gives no
// temperature leaves it at 1 whatever it says of do_sample.
struct GenerationConfig {
  std::vector<TokenId> eos_token_ids;  // any of them ends a choice; may be empty
  std::optional<TokenId> bos_token_id;
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int32_t> top_k;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<int32_t> max_new_tokens;  // default of max_tokens
};

// Reads FOLDER/generation_config.json. If there is no such file, or it names no eos_token_id, the
// end-of-sequence tokens are those of config.json.
// Errors: InvalidArgument naming the field, its value and the rule.
absl::StatusOr<GenerationConfig> LoadGenerationConfig(const std::string& folder,
                                                      const ModelConfig& model);
absl::StatusOr<GenerationConfig> ParseGenerationConfig(absl::string_view json,
                                                       absl::string_view source_name,
                                                       const ModelConfig& model);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_GENERATION_CONFIG_H_
