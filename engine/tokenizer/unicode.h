// UTF-8 and the character properties that tokenizers ask for.
//
// Thread-safe: pure functions over constant tables. Text is valid UTF-8 wherever a function does
// not say otherwise.
#ifndef MOELIGHT_ENGINE_TOKENIZER_UNICODE_H_
#define MOELIGHT_ENGINE_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <optional>
#include <string>

#include <absl/strings/string_view.h>

namespace moelight {

// Offset of the first byte that begins no well-formed sequence; nullopt if `text` is valid.
std::optional<size_t> FindInvalidUtf8(absl::string_view text);

// Bytes of the sequence that begins with `lead`. REQUIRES: a lead byte of valid UTF-8.
inline size_t Utf8Length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The character that begins at text[pos]. REQUIRES: pos is at a character of valid UTF-8.
char32_t DecodeUtf8(absl::string_view text, size_t pos);

// Offset of the character before `pos`. REQUIRES: 0 < pos <= text.size().
size_t PreviousUtf8(absl::string_view text, size_t pos);

void AppendUtf8(char32_t character, std::string* out);

bool IsOneCharacter(absl::string_view text);

bool IsWhiteSpace(char32_t character);   // the White_Space property
bool IsNumeric(char32_t character);      // general category N
bool IsPunctuation(char32_t character);  // general category P, and ASCII punctuation
bool IsMark(char32_t character);         // general category M
bool IsWord(char32_t character);         // what \w matches

// Turns a byte stream into valid UTF-8: what can no longer become a character turns into U+FFFD,
// one per maximal invalid prefix (the practice Unicode recommends).
class Utf8Assembler {
 public:
  // Appends to `out` the characters that `bytes` complete; an unfinished one is held back.
  void Append(absl::string_view bytes, std::string* out);
  // Ends the stream: an unfinished character becomes U+FFFD.
  void Flush(std::string* out);

 private:
  std::string pending_;  // at most three bytes that may still become a character
};

// PCRE2 10.42 knows Unicode 14, the reference tokenizer's regexes Unicode 16, and PCRE2 counts
// U+180E as white space. If `text` has characters on which they differ, fills `copy` with the text
// in which each is replaced by an older one of the same category and UTF-8 length, so that offsets
// stay, and returns true. Otherwise returns false and leaves `copy` alone.
bool SubstituteForRegex(absl::string_view text, std::string* copy);

// Characters whose normalization data came after Unicode 9, the version of the reference
// normalizer, which passes them on as they are.
bool IsNewerThanNormalizer(char32_t character);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_UNICODE_H_
