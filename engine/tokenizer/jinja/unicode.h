// Unicode helpers with Python's meaning of the words: what str.isspace(), str.upper(), repr() and
// len() do, on UTF-8.
//
// Pure functions, thread-safe. Every string given to them is valid UTF-8, which the edges check
// with IsValidUtf8(); positions are byte offsets of character boundaries.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_UNICODE_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include <absl/strings/string_view.h>

namespace moelight::jinja {

bool IsValidUtf8(absl::string_view bytes);
size_t CountChars(absl::string_view text);

// The character at `position`, which must be before the end, and its size in bytes.
struct DecodedChar {
  char32_t value = 0;
  size_t size = 1;
};
DecodedChar DecodeChar(absl::string_view text, size_t position);
// The character that ends at `end`, which must be after the begin.
DecodedChar DecodeCharBefore(absl::string_view text, size_t end);
void AppendChar(char32_t value, std::string* out);
// Byte offset of character `index`; the size of `text` if there are fewer.
size_t ByteOffset(absl::string_view text, size_t index);

bool IsSpace(char32_t c);
bool IsPrintable(char32_t c);
bool IsAlpha(char32_t c);
bool IsDigit(char32_t c);
bool IsAlnum(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsWord(char32_t c);  // \w of Python's regular expressions

std::string ToUpper(absl::string_view text);
std::string ToLower(absl::string_view text);
std::string ToTitle(absl::string_view text);        // str.title()
std::string ToCapitalized(absl::string_view text);  // str.capitalize()
std::string SwapCase(absl::string_view text);

// repr() of a str: quoted, with escapes for what does not print.
std::string QuoteText(absl::string_view text);
// repr() of a float: the shortest digits that read back equal.
std::string FloatText(double value);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_UNICODE_H_
