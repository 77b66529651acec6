// ParseJson: JSON text to a DOM, with limits that make it safe on files nobody vouches for.
//
// nlohmann::json's own parse() neither bounds nesting nor notices an object key given twice; both
// matter for model files, where a second "model.embed_tokens.weight" must not silently win.
//
// Threads: thread-safe. Allocates: the DOM. Never throws.
// Errors: InvalidArgument "SOURCE:LINE:COLUMN: reason" for a syntax error or text that is not
// UTF-8, "SOURCE: reason" for a limit.
#ifndef MOELIGHT_ENGINE_BASE_JSON_H_
#define MOELIGHT_ENGINE_BASE_JSON_H_

#include <cstdint>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <nlohmann/json_fwd.hpp>

namespace moelight {

struct JsonLimits {
  // Arrays and objects inside each other. Everything recursive over a DOM (copy, comparison, dump)
  // stays within a small stack at this depth.
  int max_depth = 64;
  int64_t max_bytes = int64_t{64} << 20;
  // True: an object key given twice is an error. False: the last one wins, as in Python.
  bool unique_keys = false;
};

// `source_name` begins every error message; usually the file's path.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view source_name,
                                         const JsonLimits& limits = {});

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_JSON_H_
