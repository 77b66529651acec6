#include "client/sampling_options.h"

#include <optional>
#include <string>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <nlohmann/json.hpp>

#include "client/exit_code.h"
#include "client/sampling_fields.h"

namespace moelight::client {
namespace {

using Json = nlohmann::json;

std::string OptionName(const SamplingField& field) {
  return absl::StrReplaceAll(field.name, {{"_", "-"}});
}

// A value is JSON if it can be and plain text otherwise: --max-tokens 5, --stop END, --stop
// '["a"]'.
absl::Status SetField(const SamplingField& field, const std::string& text,
                      v1::SamplingParams& sampling) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return field.set(Json(text), sampling);
  absl::Status status = field.set(json, sampling);
  // Text that happens to look like a number: --stop 42.
  if (!status.ok() && field.set(Json(text), sampling).ok()) return absl::OkStatus();
  return status;
}

}  // namespace

std::vector<OptionSpec> WithSamplingOptions(std::vector<OptionSpec> own) {
  for (const SamplingField& field : SamplingFields()) {
    own.push_back(
        {OptionName(field), '\0', std::string(field.placeholder), std::string(field.help)});
  }
  return own;
}

absl::StatusOr<v1::SamplingParams> ReadSamplingOptions(const ParsedArgs& args) {
  v1::SamplingParams sampling;
  for (const SamplingField& field : SamplingFields()) {
    const std::string name = OptionName(field);
    const std::optional<std::string> text = args.Get(name);
    if (!text.has_value()) continue;
    const absl::Status status = SetField(field, *text, sampling);
    if (!status.ok()) return UsageError(absl::StrCat("--", name, " ", status.message()));
  }
  return sampling;
}

}  // namespace moelight::client
