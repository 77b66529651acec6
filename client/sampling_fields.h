// Sampling fields by their JSON names: one table for the bodies of batch lines and for command-line
// flags, so that both know the same names and refuse the same things.
//
// Only the type is checked here; ranges are the server's, which knows the model.
// Threads: functions are pure. Errors: InvalidArgument saying what was expected and what was found.
#ifndef MOELIGHT_CLIENT_SAMPLING_FIELDS_H_
#define MOELIGHT_CLIENT_SAMPLING_FIELDS_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>
#include <nlohmann/json.hpp>

#include "moelight/v1/types.pb.h"

namespace moelight::client {

struct SamplingField {
  absl::string_view name;         // in JSON, as vLLM and OpenAI spell it
  absl::string_view placeholder;  // for help texts
  absl::string_view help;
  // `value` is neither null nor absent.
  absl::Status (*set)(const nlohmann::json& value, v1::SamplingParams& sampling);
};

// Every field but logprobs, which is spelled differently in chats and completions.
absl::Span<const SamplingField> SamplingFields();
// nullptr if there is none of that name.
const SamplingField* FindSamplingField(absl::string_view name);

// Shared with the bodies' other fields. `expected` completes "must be ...".
absl::Status WrongType(absl::string_view expected, const nlohmann::json& value);
absl::Status ReadInt32(const nlohmann::json& value, int32_t& number);
absl::Status ReadBool(const nlohmann::json& value, bool& flag);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_SAMPLING_FIELDS_H_
