#include "engine/tokenizer/jinja/string_literal.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

constexpr absl::string_view kSimple = "\\'\"abfnrtv";
constexpr absl::string_view kSimpleMeaning = "\\'\"\a\b\f\n\r\t\v";

int DigitValue(char c) {
  if (absl::ascii_isdigit(static_cast<unsigned char>(c))) return c - '0';
  return absl::ascii_tolower(static_cast<unsigned char>(c)) - 'a' + 10;
}

// Exactly `count` hexadecimal digits at `*at`.
absl::StatusOr<char32_t> ReadHex(absl::string_view body, size_t* at, size_t count) {
  char32_t value = 0;
  for (size_t i = 0; i < count; ++i, ++*at) {
    if (*at >= body.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(body[*at]))) {
      return absl::InvalidArgumentError(
          absl::StrCat("a string escape needs ", count, " hexadecimal digits"));
    }
    value = value * 16 + static_cast<char32_t>(DigitValue(body[*at]));
  }
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    return absl::InvalidArgumentError("a string escape is not a Unicode character");
  }
  return value;
}

char32_t ReadOctal(absl::string_view body, size_t* at) {
  char32_t value = 0;
  for (int i = 0; i < 3 && *at < body.size() && body[*at] >= '0' && body[*at] <= '7'; ++i, ++*at) {
    value = value * 8 + static_cast<char32_t>(body[*at] - '0');
  }
  return value;
}

}  // namespace

absl::StatusOr<std::string> ResolveEscapes(absl::string_view body) {
  std::string out;
  out.reserve(body.size());
  for (size_t at = 0; at < body.size();) {
    if (body[at] != '\\' || at + 1 == body.size()) {
      out.push_back(body[at++]);
      continue;
    }
    const char c = body[at + 1];
    at += 2;
    if (const size_t simple = kSimple.find(c); simple != absl::string_view::npos) {
      out.push_back(kSimpleMeaning[simple]);
    } else if (c >= '0' && c <= '7') {
      --at;
      AppendChar(ReadOctal(body, &at), &out);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      ASSIGN_OR_RETURN(const char32_t value, ReadHex(body, &at, c == 'x' ? 2 : c == 'u' ? 4 : 8));
      AppendChar(value, &out);
    } else if (c == 'N') {
      return absl::InvalidArgumentError("\\N{...} escapes are not supported");
    } else if (c != '\n') {  // a backslash at the end of a line continues it
      out.push_back('\\');
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace moelight::jinja
