#include "server/client_weights.h"

#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

namespace moelight {

absl::StatusOr<ClientWeights> ClientWeights::Parse(absl::string_view text) {
  ClientWeights weights;
  if (absl::StripAsciiWhitespace(text).empty()) return weights;
  for (const absl::string_view entry : absl::StrSplit(text, ',')) {
    // A name may have an equals sign, a weight never has.
    const size_t equals = entry.rfind('=');
    if (equals == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", absl::StripAsciiWhitespace(entry), "\" is not NAME=WEIGHT"));
    }
    const absl::string_view name = absl::StripAsciiWhitespace(entry.substr(0, equals));
    if (name.empty() || name.size() > kMaxClientBytes) {
      return absl::InvalidArgumentError(absl::StrCat("the client's name \"", name, "\" has ",
                                                     name.size(), " bytes, must have 1 to ",
                                                     kMaxClientBytes));
    }
    int32_t weight = 0;
    const absl::string_view number = absl::StripAsciiWhitespace(entry.substr(equals + 1));
    if (!absl::SimpleAtoi(number, &weight) || weight < 1 || weight > kMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("the weight of \"", name, "\" is \"", number, "\", must be 1 to ", kMax));
    }
    if (!weights.weights_.emplace(name, weight).second) {
      return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is there twice"));
    }
  }
  return weights;
}

}  // namespace moelight
