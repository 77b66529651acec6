#include "client/sampling_fields.h"

#include <cstdint>
#include <limits>
#include <string>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

using Json = nlohmann::json;
using v1::SamplingParams;

template <void (SamplingParams::*kSet)(float)>
absl::Status SetFloat(const Json& value, SamplingParams& sampling) {
  if (!value.is_number()) return WrongType("a number", value);
  (sampling.*kSet)(value.get<float>());
  return absl::OkStatus();
}

template <void (SamplingParams::*kSet)(int32_t)>
absl::Status SetInt32(const Json& value, SamplingParams& sampling) {
  int32_t number = 0;
  RETURN_IF_ERROR(ReadInt32(value, number));
  (sampling.*kSet)(number);
  return absl::OkStatus();
}

absl::Status SetSeed(const Json& value, SamplingParams& sampling) {
  if (!value.is_number_unsigned()) return WrongType("an integer of 0 or more", value);
  sampling.set_seed(value.get<uint64_t>());
  return absl::OkStatus();
}

absl::Status SetIgnoreEos(const Json& value, SamplingParams& sampling) {
  bool flag = false;
  RETURN_IF_ERROR(ReadBool(value, flag));
  sampling.set_ignore_eos(flag);
  return absl::OkStatus();
}

absl::Status SetStop(const Json& value, SamplingParams& sampling) {
  sampling.clear_stop();
  if (value.is_string()) {
    sampling.add_stop(value.get_ref<const std::string&>());
    return absl::OkStatus();
  }
  if (!value.is_array()) return WrongType("a string or an array of strings", value);
  for (const Json& item : value) {
    if (!item.is_string()) return WrongType("an array of strings", item);
    sampling.add_stop(item.get_ref<const std::string&>());
  }
  return absl::OkStatus();
}

absl::Status SetStopTokenIds(const Json& value, SamplingParams& sampling) {
  sampling.clear_stop_token_ids();
  if (!value.is_array()) return WrongType("an array of token ids", value);
  for (const Json& item : value) {
    int32_t id = 0;
    RETURN_IF_ERROR(ReadInt32(item, id));
    sampling.add_stop_token_ids(id);
  }
  return absl::OkStatus();
}

absl::Status SetLogitBias(const Json& value, SamplingParams& sampling) {
  sampling.clear_logit_bias();
  if (!value.is_object()) return WrongType("an object of token ids and numbers", value);
  for (const auto& [key, bias] : value.items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(key, &id)) {
      return absl::InvalidArgumentError(absl::StrCat("key \"", key, "\" is not a token id"));
    }
    if (!bias.is_number()) return WrongType("an object of token ids and numbers", bias);
    (*sampling.mutable_logit_bias())[id] = bias.get<float>();
  }
  return absl::OkStatus();
}

constexpr SamplingField kSamplingFields[] = {
    {"temperature", "T", "0 is greedy, up to 2", SetFloat<&SamplingParams::set_temperature>},
    {"top_p", "P", "keep the likeliest tokens with this much probability",
     SetFloat<&SamplingParams::set_top_p>},
    {"top_k", "K", "keep this many of the likeliest tokens, -1 for all",
     SetInt32<&SamplingParams::set_top_k>},
    {"min_p", "P", "drop tokens less likely than this times the likeliest",
     SetFloat<&SamplingParams::set_min_p>},
    {"repetition_penalty", "X", "above 1 discourages tokens seen before",
     SetFloat<&SamplingParams::set_repetition_penalty>},
    {"presence_penalty", "X", "-2 to 2, once per token in the answer",
     SetFloat<&SamplingParams::set_presence_penalty>},
    {"frequency_penalty", "X", "-2 to 2, per occurrence in the answer",
     SetFloat<&SamplingParams::set_frequency_penalty>},
    {"seed", "N", "makes sampling reproducible", SetSeed},
    {"max_tokens", "N", "most tokens to generate", SetInt32<&SamplingParams::set_max_tokens>},
    {"min_tokens", "N", "no end before this many tokens",
     SetInt32<&SamplingParams::set_min_tokens>},
    {"stop", "TEXT", "end before this text, or a JSON array of texts", SetStop},
    {"stop_token_ids", "JSON", "array of token ids that end the answer", SetStopTokenIds},
    {"ignore_eos", "BOOL", "true: generate past the end-of-sequence token", SetIgnoreEos},
    {"n", "N", "answers per request", SetInt32<&SamplingParams::set_n>},
    {"logit_bias", "JSON", "object of token ids and what to add to their logits", SetLogitBias},
};

}  // namespace

absl::Span<const SamplingField> SamplingFields() { return kSamplingFields; }

const SamplingField* FindSamplingField(absl::string_view name) {
  for (const SamplingField& field : kSamplingFields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

absl::Status WrongType(absl::string_view expected, const Json& value) {
  constexpr size_t kMaxShownBytes = 40;
  std::string shown = value.is_structured()
                          ? absl::StrCat("an ", value.type_name())
                          : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > kMaxShownBytes) shown = absl::StrCat("a long ", value.type_name());
  return absl::InvalidArgumentError(absl::StrCat("must be ", expected, ", is ", shown));
}

absl::Status ReadInt32(const Json& value, int32_t& number) {
  if (!value.is_number_integer()) return WrongType("an integer", value);
  constexpr int64_t kMin = std::numeric_limits<int32_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  const bool fits = value.is_number_unsigned()
                        ? value.get<uint64_t>() <= static_cast<uint64_t>(kMax)
                        : value.get<int64_t>() >= kMin && value.get<int64_t>() <= kMax;
  if (!fits) return WrongType("an integer of 32 bits", value);
  number = value.get<int32_t>();
  return absl::OkStatus();
}

absl::Status ReadBool(const Json& value, bool& flag) {
  if (!value.is_boolean()) return WrongType("true or false", value);
  flag = value.get<bool>();
  return absl::OkStatus();
}

}  // namespace moelight::client
