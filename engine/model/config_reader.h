// ConfigReader: typed, ranged access to one JSON object of a model folder.
//
// A field that is null counts as absent, because Hugging Face writes null for "use the default".
// Every error names the source, the field, the value and the rule.
//
// Threads: thread-safe, read-only. Owns nothing: the object must outlive the reader.
#ifndef MOELIGHT_ENGINE_MODEL_CONFIG_READER_H_
#define MOELIGHT_ENGINE_MODEL_CONFIG_READER_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <nlohmann/json_fwd.hpp>

namespace moelight {

// Both ends are allowed values.
struct IntRange {
  int64_t min = 0;
  int64_t max = std::numeric_limits<int32_t>::max();
};

// `min` itself is refused if `min_excluded`; infinities and NaN always are.
struct NumberRange {
  double min = 0;
  double max = 0;
  bool min_excluded = false;
};

class ConfigReader {
 public:
  // `source` begins every message: a path, or a path and the field that holds `object`.
  // REQUIRES: object.is_object().
  ConfigReader(const nlohmann::json& object, absl::string_view source)
      : object_(&object), source_(source) {}

  bool Has(absl::string_view field) const { return Find(field) != nullptr; }
  const std::string& source() const { return source_; }

  // The value of a field that must be there.
  absl::StatusOr<int64_t> Int(absl::string_view field, IntRange range) const;
  absl::StatusOr<double> Number(absl::string_view field, NumberRange range) const;
  absl::StatusOr<std::string> String(absl::string_view field) const;

  // The value, or nullopt if absent.
  absl::StatusOr<std::optional<int64_t>> OptionalInt(absl::string_view field, IntRange range) const;
  absl::StatusOr<std::optional<double>> OptionalNumber(absl::string_view field,
                                                       NumberRange range) const;

  absl::StatusOr<bool> BoolOr(absl::string_view field, bool absent) const;
  absl::StatusOr<std::string> StringOr(absl::string_view field, absl::string_view absent) const;

  // A list of integers; a single integer is a list of one, and absent is the empty list.
  absl::StatusOr<std::vector<int64_t>> IntList(absl::string_view field, IntRange range) const;
  // A list of strings; absent is the empty list.
  absl::StatusOr<std::vector<std::string>> StringList(absl::string_view field) const;
  // A reader of the object in `field`, or nullopt if absent.
  absl::StatusOr<std::optional<ConfigReader>> Object(absl::string_view field) const;

  // InvalidArgument "SOURCE: FIELD is VALUE, RULE".
  absl::Status Invalid(absl::string_view field, absl::string_view rule) const;

 private:
  const nlohmann::json* Find(absl::string_view field) const;  // null if absent or null
  absl::Status Missing(absl::string_view field) const;

  const nlohmann::json* object_;
  std::string source_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_CONFIG_READER_H_
