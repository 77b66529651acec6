// JSON to values and back: the request's tools and tool calls, and the `tojson` filter.
//
// Thread-safe. Allocates: the values and texts made.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_JSON_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_JSON_H_

#include <optional>
#include <string>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

inline constexpr int kMaxJsonDepth = 64;

// JSON sent with the request: every string in it is the user's. Objects keep the order of their
// keys. InvalidArgument naming what is wrong and where, also for nesting beyond kMaxJsonDepth;
// never recurses.
absl::StatusOr<Value> ParseRequestJson(absl::string_view text);

// The options of Python's json.dumps.
struct JsonStyle {
  std::optional<std::string> indent;  // one level of it; unset: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};

// InvalidArgument for values that JSON does not have. The text is the user's if any string in it
// is.
absl::StatusOr<Str> DumpJson(Meter& meter, const Value& value, const JsonStyle& style);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_JSON_H_
