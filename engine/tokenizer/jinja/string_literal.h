// Escapes of string literals, as Python resolves them.
//
// Thread-safe. Errors: InvalidArgument for escapes that give no character.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_STRING_LITERAL_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_STRING_LITERAL_H_

#include <string>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight::jinja {

// `body` is what stands between the quotes. Unknown escapes stay as they are, as in Python.
absl::StatusOr<std::string> ResolveEscapes(absl::string_view body);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_STRING_LITERAL_H_
