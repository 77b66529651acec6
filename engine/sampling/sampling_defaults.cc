#include "engine/sampling/sampling_defaults.h"

#include <algorithm>

#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

namespace moelight {
namespace {

template <typename T>
T FirstSet(const std::optional<T>& requested, const std::optional<T>& model_default, T otherwise) {
  return requested.has_value() ? *requested : model_default.value_or(otherwise);
}

}  // namespace

absl::Status ValidateSamplingDefaults(const SamplingDefaults& defaults, int32_t vocab_size) {
  SamplingParams params;
  params.temperature = defaults.temperature;
  params.top_p = defaults.top_p;
  params.min_p = defaults.min_p;
  params.repetition_penalty = defaults.repetition_penalty;
  params.top_k = defaults.top_k;
  if (absl::Status status = ValidateSamplingParams(params, vocab_size); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation_config.", absl::StripPrefix(status.message(), "sampling.")));
  }
  for (TokenId token : defaults.eos_token_ids) {
    if (token < 0 || token >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("generation_config.eos_token_id: token id ",
                                                     token, " is outside [0, ", vocab_size, ")"));
    }
  }
  return absl::OkStatus();
}

ResolvedSampling ResolveSampling(const SamplingParams& params, const SamplingDefaults& defaults) {
  const float temperature = FirstSet(params.temperature, defaults.temperature, 1.0f);
  return {
      .temperature = temperature == 0 ? 0 : std::max(temperature, kMinTemperature),
      .top_p = FirstSet(params.top_p, defaults.top_p, 1.0f),
      .top_k = std::max(FirstSet(params.top_k, defaults.top_k, 0), 0),
      .min_p = FirstSet(params.min_p, defaults.min_p, 0.0f),
      .repetition_penalty = FirstSet(params.repetition_penalty, defaults.repetition_penalty, 1.0f),
      .presence_penalty = params.presence_penalty.value_or(0.0f),
      .frequency_penalty = params.frequency_penalty.value_or(0.0f),
      .min_tokens = params.min_tokens.value_or(0),
  };
}

}  // namespace moelight
