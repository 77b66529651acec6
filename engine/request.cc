#include "engine/request.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace moelight {
namespace {

template <typename... Args>
absl::Status Invalid(absl::string_view field, const Args&... reason) {
  return absl::InvalidArgumentError(absl::StrCat("sampling.", field, ": ", reason...));
}

enum class Lower { kClosed, kOpen };

// Written so that a NaN fails every range.
absl::Status CheckRange(absl::string_view field, float value, float low, float high,
                        Lower lower = Lower::kClosed) {
  const bool above_low = lower == Lower::kOpen ? value > low : value >= low;
  if (above_low && value <= high) return absl::OkStatus();
  return Invalid(field, value, " is outside ", lower == Lower::kOpen ? "(" : "[", low, ", ", high,
                 "]");
}

absl::Status CheckRange(absl::string_view field, const std::optional<float>& value, float low,
                        float high, Lower lower = Lower::kClosed) {
  return value.has_value() ? CheckRange(field, *value, low, high, lower) : absl::OkStatus();
}

absl::Status CheckCount(absl::string_view field, size_t count, size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return Invalid(field, count, " entries, limit ", limit);
}

absl::Status CheckToken(absl::string_view field, size_t index, TokenId token, int32_t vocab_size) {
  if (token >= 0 && token < vocab_size) return absl::OkStatus();
  return Invalid(absl::StrCat(field, "[", index, "]"), "token id ", token, " is outside [0, ",
                 vocab_size, ")");
}

absl::Status ValidateDistribution(const SamplingParams& params) {
  RETURN_IF_ERROR(CheckRange("temperature", params.temperature, 0, 2));
  RETURN_IF_ERROR(CheckRange("top_p", params.top_p, 0, 1, Lower::kOpen));
  if (params.top_k.has_value() && *params.top_k < -1) {
    return Invalid("top_k", *params.top_k, " is neither -1 nor 0 (all tokens) nor at least 1");
  }
  RETURN_IF_ERROR(CheckRange("min_p", params.min_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("repetition_penalty", params.repetition_penalty, 0, 2, Lower::kOpen));
  RETURN_IF_ERROR(CheckRange("presence_penalty", params.presence_penalty, -2, 2));
  return CheckRange("frequency_penalty", params.frequency_penalty, -2, 2);
}

absl::Status ValidateLengths(const SamplingParams& params) {
  if (params.max_tokens.has_value() && *params.max_tokens < 1) {
    return Invalid("max_tokens", *params.max_tokens, " is less than 1");
  }
  if (!params.min_tokens.has_value()) return absl::OkStatus();
  if (*params.min_tokens < 0) {
    return Invalid("min_tokens", *params.min_tokens, " is less than 0");
  }
  if (params.max_tokens.has_value() && *params.min_tokens > *params.max_tokens) {
    return Invalid("min_tokens", *params.min_tokens, " is more than max_tokens, ",
                   *params.max_tokens);
  }
  return absl::OkStatus();
}

absl::Status ValidateStops(const SamplingParams& params, int32_t vocab_size) {
  RETURN_IF_ERROR(CheckCount("stop", params.stop.size(), kMaxStopStrings));
  for (size_t i = 0; i < params.stop.size(); ++i) {
    const std::string& stop = params.stop[i];
    const auto invalid = [i](const auto&... reason) {
      return Invalid(absl::StrCat("stop[", i, "]"), reason...);
    };
    if (stop.empty()) return invalid("empty string");
    if (stop.size() > kMaxStopStringBytes) {
      return invalid(stop.size(), " bytes, limit ", kMaxStopStringBytes);
    }
    if (const std::optional<size_t> at = FindInvalidUtf8(stop); at.has_value()) {
      return invalid("not valid UTF-8 at byte ", *at);
    }
  }
  RETURN_IF_ERROR(CheckCount("stop_token_ids", params.stop_token_ids.size(), kMaxStopTokenIds));
  for (size_t i = 0; i < params.stop_token_ids.size(); ++i) {
    RETURN_IF_ERROR(CheckToken("stop_token_ids", i, params.stop_token_ids[i], vocab_size));
  }
  return absl::OkStatus();
}

absl::Status ValidateLogitBias(const SamplingParams& params, int32_t vocab_size) {
  RETURN_IF_ERROR(CheckCount("logit_bias", params.logit_bias.size(), kMaxLogitBias));
  std::vector<TokenId> tokens;
  tokens.reserve(params.logit_bias.size());
  for (size_t i = 0; i < params.logit_bias.size(); ++i) {
    const auto& [token, bias] = params.logit_bias[i];
    RETURN_IF_ERROR(CheckToken("logit_bias", i, token, vocab_size));
    if (!(bias >= -100 && bias <= 100)) {
      return CheckRange(absl::StrCat("logit_bias[", i, "]"), bias, -100, 100);
    }
    tokens.push_back(token);
  }
  std::sort(tokens.begin(), tokens.end());
  const auto twice = std::adjacent_find(tokens.begin(), tokens.end());
  if (twice != tokens.end()) return Invalid("logit_bias", "token id ", *twice, " appears twice");
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateSamplingParams(const SamplingParams& params, int32_t vocab_size) {
  RETURN_IF_ERROR(ValidateDistribution(params));
  RETURN_IF_ERROR(ValidateLengths(params));
  RETURN_IF_ERROR(ValidateStops(params, vocab_size));
  if (params.logprobs.has_value() && (*params.logprobs < 0 || *params.logprobs > kMaxLogprobs)) {
    return Invalid("logprobs", *params.logprobs, " is outside [0, ", kMaxLogprobs, "]");
  }
  if (params.n < 1 || params.n > kMaxChoices) {
    return Invalid("n", params.n, " is outside [1, ", kMaxChoices, "]");
  }
  // vLLM refuses this as well: greedy choices would all be the same text, paid for n times.
  if (params.n > 1 && params.temperature == 0.0f) {
    return Invalid("n", params.n, " choices would be equal at temperature 0, where n must be 1");
  }
  return ValidateLogitBias(params, vocab_size);
}

absl::string_view FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  CHECK(false) << "finish reason " << static_cast<int>(reason);
  return "";
}

}  // namespace moelight
