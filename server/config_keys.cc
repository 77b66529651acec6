#include "server/config_keys.h"

#include <algorithm>
#include <limits>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "server/config_values.h"

namespace moelight {
namespace {

template <typename T>
T& Get(const ConfigKey& key, Config& config) {
  return std::get<T& (*)(Config&)>(key.binding)(config);
}

int64_t GetNumber(const ConfigKey& key, Config& config) {
  if (std::holds_alternative<int32_t& (*)(Config&)>(key.binding)) return Get<int32_t>(key, config);
  return Get<int64_t>(key, config);
}

std::string FormatNumber(ConfigKind kind, int64_t value) {
  if (kind == ConfigKind::kSize) return FormatSize(value);
  if (kind == ConfigKind::kDuration) return FormatDuration(value);
  return absl::StrCat(value);
}

absl::Status SetNumber(const ConfigKey& key, absl::string_view text, Config& config) {
  const auto parse = key.kind == ConfigKind::kSize       ? ParseSize
                     : key.kind == ConfigKind::kDuration ? ParseDuration
                                                         : ParseInteger;
  ASSIGN_OR_RETURN(const int64_t value, parse(text));
  if (value < key.min || value > key.max) {
    return absl::InvalidArgumentError(absl::StrCat(text, " is out of range: ", DescribeRange(key)));
  }
  if (std::holds_alternative<int32_t& (*)(Config&)>(key.binding)) {
    CHECK_LE(value, std::numeric_limits<int32_t>::max()) << "range of " << key.path;
    Get<int32_t>(key, config) = static_cast<int32_t>(value);
  } else {
    Get<int64_t>(key, config) = value;
  }
  return absl::OkStatus();
}

absl::Status SetChoice(const ConfigKey& key, absl::string_view text, Config& config) {
  const auto contains = [&](const std::vector<absl::string_view>& list) {
    return std::find(list.begin(), list.end(), text) != list.end();
  };
  if (contains(key.refused_choices)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" cannot take effect: ", key.refusal));
  }
  if (!contains(key.choices)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not ", DescribeRange(key)));
  }
  Get<std::string>(key, config) = std::string(text);
  return absl::OkStatus();
}

}  // namespace

const ConfigKey* FindConfigKey(absl::string_view path) {
  const absl::Span<const ConfigKey> keys = ConfigKeys();
  const auto it = std::find_if(keys.begin(), keys.end(),
                               [&](const ConfigKey& key) { return key.path == path; });
  return it == keys.end() ? nullptr : &*it;
}

absl::Status SetConfigValue(const ConfigKey& key, absl::string_view text, Config& config) {
  switch (key.kind) {
    case ConfigKind::kString:
    case ConfigKind::kPath:
      Get<std::string>(key, config) = std::string(text);
      return absl::OkStatus();
    case ConfigKind::kBool: {
      ASSIGN_OR_RETURN(Get<bool>(key, config), ParseBool(text));
      return absl::OkStatus();
    }
    case ConfigKind::kInteger:
    case ConfigKind::kSize:
    case ConfigKind::kDuration:
      return SetNumber(key, text, config);
    case ConfigKind::kChoice:
      return SetChoice(key, text, config);
  }
  return absl::InternalError("kind of key");
}

std::string FormatConfigValue(const ConfigKey& key, const Config& config) {
  Config copy = config;  // the bindings give mutable references
  switch (key.kind) {
    case ConfigKind::kString:
    case ConfigKind::kPath:
    case ConfigKind::kChoice:
      return Get<std::string>(key, copy);
    case ConfigKind::kBool:
      return Get<bool>(key, copy) ? "true" : "false";
    case ConfigKind::kInteger:
    case ConfigKind::kSize:
    case ConfigKind::kDuration:
      return FormatNumber(key.kind, GetNumber(key, copy));
  }
  return "";
}

std::optional<int64_t> ConfigLimit(const ConfigKey& key, const Config& config) {
  if (!absl::StartsWith(key.path, "server.limits.") && !absl::StartsWith(key.path, "engine.max_")) {
    return std::nullopt;
  }
  Config copy = config;
  return GetNumber(key, copy);
}

std::string DescribeRange(const ConfigKey& key) {
  switch (key.kind) {
    case ConfigKind::kString:
    case ConfigKind::kPath:
      return "text";
    case ConfigKind::kBool:
      return "true or false";
    case ConfigKind::kInteger:
    case ConfigKind::kSize:
    case ConfigKind::kDuration:
      return absl::StrCat(FormatNumber(key.kind, key.min), " to ", FormatNumber(key.kind, key.max));
    case ConfigKind::kChoice:
      return key.choices.size() == 1 ? std::string(key.choices[0])
                                     : absl::StrCat("one of ", absl::StrJoin(key.choices, ", "));
  }
  return "";
}

}  // namespace moelight
