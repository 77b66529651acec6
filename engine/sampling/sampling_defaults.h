// SamplingDefaults: what a model's generation_config.json says about sampling. ResolvedSampling: a
// request's parameters with every optional filled: the request, then the model's defaults, then the
// default documented at SamplingParams.
//
// Plain values, no threads. Errors: ValidateSamplingDefaults() returns InvalidArgument; resolving
// expects both parts to be valid and cannot fail.
#ifndef MOELIGHT_ENGINE_SAMPLING_SAMPLING_DEFAULTS_H_
#define MOELIGHT_ENGINE_SAMPLING_SAMPLING_DEFAULTS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include <absl/status/status.h>

#include "engine/request.h"

namespace moelight {

struct SamplingDefaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<int32_t> top_k;
  std::vector<TokenId> eos_token_ids;  // any of them ends a sequence
  // Of each token to be an end of sequence whatever the logits say, where that is not ignored.
  // Random weights would never end; 0: off.
  double chance_to_end = 0;
};

// InvalidArgument naming the field, the value and the range, as ValidateSamplingParams() does, but
// with the prefix "generation_config.".
absl::Status ValidateSamplingDefaults(const SamplingDefaults& defaults, int32_t vocab_size);

struct ResolvedSampling {
  float temperature;         // 0: greedy; otherwise at least kMinTemperature
  float top_p;               // 1: off
  int32_t top_k;             // 0: off
  float min_p;               // 0: off
  float repetition_penalty;  // 1: off
  float presence_penalty;    // 0: off
  float frequency_penalty;   // 0: off
  int32_t min_tokens;
};

// Positive temperatures below this one are raised to it, as vLLM does. The distribution is then
// all but greedy, and logit / temperature stays far from overflow.
inline constexpr float kMinTemperature = 0.01f;

ResolvedSampling ResolveSampling(const SamplingParams& params, const SamplingDefaults& defaults);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SAMPLING_SAMPLING_DEFAULTS_H_
