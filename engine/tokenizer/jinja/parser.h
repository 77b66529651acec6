// ParseTemplate: a template's source to its syntax tree.
//
// Thread-safe. Errors: InvalidArgument "chat template line N: ..." for what is not a template of
// the supported language, and ResourceExhausted for sources too large or nested too deep.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_PARSER_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_PARSER_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/jinja/ast.h"

namespace moelight::jinja {

// Published templates have up to about 30 KB.
inline constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

absl::StatusOr<Body> ParseTemplate(absl::string_view source, int max_depth);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_PARSER_H_
