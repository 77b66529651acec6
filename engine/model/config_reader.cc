#include "engine/model/config_reader.h"

#include <cmath>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

using Json = nlohmann::json;

// The value as JSON, cut to what a message can carry.
std::string Show(const Json* value) {
  if (value == nullptr) return "absent";
  if (value->is_structured()) return value->is_array() ? "a list" : "an object";
  constexpr size_t kMaxBytes = 100;
  std::string text = value->dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kMaxBytes) text = absl::StrCat(text.substr(0, kMaxBytes), "...");
  return text;
}

// Whether `value` is an integer within the range. An unsigned value past int64 is not.
bool IsIntWithin(const Json& value, IntRange range) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return false;
  }
  const int64_t number = value.get<int64_t>();
  return number >= range.min && number <= range.max;
}

std::string Rule(IntRange range) {
  return absl::StrCat("must be an integer from ", range.min, " to ", range.max);
}

}  // namespace

const Json* ConfigReader::Find(absl::string_view field) const {
  const auto it = object_->find(std::string(field));
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

absl::Status ConfigReader::Invalid(absl::string_view field, absl::string_view rule) const {
  return absl::InvalidArgumentError(
      absl::StrCat(source_, ": ", field, " is ", Show(Find(field)), ", ", rule));
}

absl::Status ConfigReader::Missing(absl::string_view field) const {
  return absl::InvalidArgumentError(absl::StrCat(source_, ": ", field, " is missing"));
}

absl::StatusOr<std::optional<int64_t>> ConfigReader::OptionalInt(absl::string_view field,
                                                                 IntRange range) const {
  const Json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (!IsIntWithin(*value, range)) return Invalid(field, Rule(range));
  return value->get<int64_t>();
}

absl::StatusOr<int64_t> ConfigReader::Int(absl::string_view field, IntRange range) const {
  ASSIGN_OR_RETURN(const std::optional<int64_t> value, OptionalInt(field, range));
  if (!value.has_value()) return Missing(field);
  return *value;
}

absl::StatusOr<std::optional<double>> ConfigReader::OptionalNumber(absl::string_view field,
                                                                   NumberRange range) const {
  const Json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  // Written so that NaN fails.
  const bool above = range.min_excluded ? number > range.min : number >= range.min;
  if (!(above && number <= range.max)) {
    return Invalid(
        field, absl::StrCat("must be a number ", range.min_excluded ? "above " : "from ", range.min,
                            range.min_excluded ? " and at most " : " to ", range.max));
  }
  return number;
}

absl::StatusOr<double> ConfigReader::Number(absl::string_view field, NumberRange range) const {
  ASSIGN_OR_RETURN(const std::optional<double> value, OptionalNumber(field, range));
  if (!value.has_value()) return Missing(field);
  return *value;
}

absl::StatusOr<bool> ConfigReader::BoolOr(absl::string_view field, bool absent) const {
  const Json* value = Find(field);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) return Invalid(field, "must be true or false");
  return value->get<bool>();
}

absl::StatusOr<std::string> ConfigReader::StringOr(absl::string_view field,
                                                   absl::string_view absent) const {
  const Json* value = Find(field);
  if (value == nullptr) return std::string(absent);
  if (!value->is_string()) return Invalid(field, "must be a string");
  return value->get<std::string>();
}

absl::StatusOr<std::string> ConfigReader::String(absl::string_view field) const {
  if (!Has(field)) return Missing(field);
  return StringOr(field, "");
}

absl::StatusOr<std::vector<int64_t>> ConfigReader::IntList(absl::string_view field,
                                                           IntRange range) const {
  const Json* value = Find(field);
  std::vector<int64_t> list;
  if (value == nullptr) return list;
  const Json single = Json::array({*value});
  for (const Json& element : value->is_array() ? *value : single) {
    if (!IsIntWithin(element, range)) {
      return Invalid(field, absl::StrCat("of which ", Show(&element), " ", Rule(range)));
    }
    list.push_back(element.get<int64_t>());
  }
  return list;
}

absl::StatusOr<std::vector<std::string>> ConfigReader::StringList(absl::string_view field) const {
  const Json* value = Find(field);
  std::vector<std::string> list;
  if (value == nullptr) return list;
  if (!value->is_array()) return Invalid(field, "must be a list of strings");
  for (const Json& element : *value) {
    if (!element.is_string()) return Invalid(field, "must be a list of strings");
    list.push_back(element.get<std::string>());
  }
  return list;
}

absl::StatusOr<std::optional<ConfigReader>> ConfigReader::Object(absl::string_view field) const {
  const Json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) return Invalid(field, "must be an object");
  return ConfigReader(*value, absl::StrCat(source_, ": ", field));
}

}  // namespace moelight
