// The table of configuration keys: path, kind, range, where the value lives, what it means.
//
// A new key is one row here and one line with its comment in config.yaml; a test holds them equal.
#ifndef MOELIGHT_SERVER_CONFIG_KEYS_H_
#define MOELIGHT_SERVER_CONFIG_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "server/config.h"

namespace moelight {

enum class ConfigKind : uint8_t {
  kString,
  kPath,      // made absolute when read
  kBool,      // true, false
  kInteger,   // min to max
  kSize,      // bytes, min to max, written 16GiB
  kDuration,  // seconds, min to max, written 7d
  kChoice,    // one of `choices`
};

// Where a value lives in a Config.
using ConfigBinding = std::variant<std::string& (*)(Config&), bool& (*)(Config&),
                                   int32_t& (*)(Config&), int64_t& (*)(Config&)>;

struct ConfigKey {
  absl::string_view path;  // "server.limits.rows_per_job"
  ConfigKind kind;
  ConfigBinding binding;
  absl::string_view doc;
  int64_t min = 0;
  int64_t max = 0;
  std::vector<absl::string_view> choices = {};
  // Values that the format knows and this build cannot honour, and why.
  std::vector<absl::string_view> refused_choices = {};
  absl::string_view refusal = "";
};

absl::Span<const ConfigKey> ConfigKeys();
const ConfigKey* FindConfigKey(absl::string_view path);  // null: there is none

// Parses, checks the range and stores. The error gives the reason without the key.
absl::Status SetConfigValue(const ConfigKey& key, absl::string_view text, Config& config);
// As it would be written in config.yaml, without quotes.
std::string FormatConfigValue(const ConfigKey& key, const Config& config);
// The value in force of a key that limits something ("server.limits." and "engine.max_").
std::optional<int64_t> ConfigLimit(const ConfigKey& key, const Config& config);
// What may be written: "1 to 100", "auto, cpu".
std::string DescribeRange(const ConfigKey& key);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CONFIG_KEYS_H_
