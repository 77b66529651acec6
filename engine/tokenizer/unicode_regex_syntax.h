// Rewrites an Oniguruma pattern (as tokenizer.json has them) for PCRE2. Pure function.
#ifndef MOELIGHT_ENGINE_TOKENIZER_UNICODE_REGEX_SYNTAX_H_
#define MOELIGHT_ENGINE_TOKENIZER_UNICODE_REGEX_SYNTAX_H_

#include <string>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight {

// InvalidArgument naming the construct and its offset if PCRE2 has no equal form or we know none.
absl::StatusOr<std::string> TranslateOnigurumaPattern(absl::string_view pattern);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_UNICODE_REGEX_SYNTAX_H_
