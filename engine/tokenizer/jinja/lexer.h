// Tokenize: a template's source to tokens, with the whitespace rules of Hugging Face's environment
// (trim_blocks, lstrip_blocks, no trailing newline, `-` and `+` marks).
//
// Thread-safe, linear in the source. Errors: InvalidArgument "chat template line N: ...".
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_LEXER_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_LEXER_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight::jinja {

enum class TokenKind : uint8_t {
  kData,           // text between tags
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kName,
  kString,    // text: with escapes resolved
  kInteger,   // integer
  kFloat,     // number
  kOperator,  // text: the operator itself
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;
  int64_t integer = 0;
  double number = 0;

  bool IsName(absl::string_view name) const { return kind == TokenKind::kName && text == name; }
  bool IsOperator(absl::string_view op) const { return kind == TokenKind::kOperator && text == op; }
};

// The last token is kEnd. REQUIRES: `source` is valid UTF-8.
absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source);

// InvalidArgument naming the line, in the form of every error of a template.
absl::Status TemplateError(int line, absl::string_view message);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_LEXER_H_
