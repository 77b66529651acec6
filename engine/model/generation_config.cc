#include "engine/model/generation_config.h"

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/model/config_reader.h"
#include "engine/model/file.h"

namespace moelight {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;  // published ones are below 1 KiB

template <typename To, typename From>
void AssignIfSet(const std::optional<From>& from, std::optional<To>& to) {
  if (from.has_value()) to = static_cast<To>(*from);
}

}  // namespace

absl::StatusOr<GenerationConfig> ParseGenerationConfig(absl::string_view json,
                                                       absl::string_view source_name,
                                                       const ModelConfig& model) {
  ASSIGN_OR_RETURN(const nlohmann::json object,
                   ParseJson(json, source_name, {.max_bytes = kMaxConfigBytes}));
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source_name, ": must be a JSON object"));
  }
  const ConfigReader config(object, source_name);
  GenerationConfig generation;
  const IntRange token = {.min = 0, .max = model.vocab_size - 1};
  ASSIGN_OR_RETURN(const std::vector<int64_t> eos, config.IntList("eos_token_id", token));
  generation.eos_token_ids.assign(eos.begin(), eos.end());
  if (eos.empty()) generation.eos_token_ids = model.eos_token_ids;

  // The ranges are those of SamplingParams in engine/request.h.
  ASSIGN_OR_RETURN(const auto bos, config.OptionalInt("bos_token_id", token));
  ASSIGN_OR_RETURN(const auto temperature,
                   config.OptionalNumber("temperature", {.min = 0, .max = 2}));
  ASSIGN_OR_RETURN(const auto top_p,
                   config.OptionalNumber("top_p", {.min = 0, .max = 1, .min_excluded = true}));
  ASSIGN_OR_RETURN(const auto top_k, config.OptionalInt("top_k", {.min = -1}));
  ASSIGN_OR_RETURN(const auto min_p, config.OptionalNumber("min_p", {.min = 0, .max = 1}));
  ASSIGN_OR_RETURN(
      const auto repetition,
      config.OptionalNumber("repetition_penalty", {.min = 0, .max = 2, .min_excluded = true}));
  ASSIGN_OR_RETURN(const auto max_new_tokens, config.OptionalInt("max_new_tokens", {.min = 1}));
  AssignIfSet(bos, generation.bos_token_id);
  AssignIfSet(temperature, generation.temperature);
  AssignIfSet(top_p, generation.top_p);
  AssignIfSet(top_k, generation.top_k);
  AssignIfSet(min_p, generation.min_p);
  AssignIfSet(repetition, generation.repetition_penalty);
  AssignIfSet(max_new_tokens, generation.max_new_tokens);
  return generation;
}

absl::StatusOr<GenerationConfig> LoadGenerationConfig(const std::string& folder,
                                                      const ModelConfig& model) {
  const std::string path = absl::StrCat(folder, "/generation_config.json");
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) {
    GenerationConfig generation;
    generation.eos_token_ids = model.eos_token_ids;
    return generation;
  }
  if (!text.ok()) return text.status();
  return ParseGenerationConfig(*text, path, model);
}

}  // namespace moelight
