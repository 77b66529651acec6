#include "engine/tokenizer/bpe_bytes.h"

#include <array>

#include <absl/strings/ascii.h>

#include "engine/tokenizer/unicode.h"

namespace moelight {
namespace {

constexpr char kHexDigits[] = "0123456789ABCDEF";
constexpr char32_t kFirstShifted = 0x100;  // stands for the first byte that is not printable
constexpr int kNumCharacters = 0x144;      // 256 less the 188 printable ones, past kFirstShifted

constexpr bool IsPrintableLatin1(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

struct ByteLevelTables {
  constexpr ByteLevelTables() {
    byte_of.fill(-1);
    char16_t next = kFirstShifted;
    for (int byte = 0; byte < 256; ++byte) {
      const char16_t character = IsPrintableLatin1(byte) ? static_cast<char16_t>(byte) : next++;
      character_of[byte] = character;
      byte_of[character] = static_cast<int16_t>(byte);
    }
  }
  std::array<char16_t, 256> character_of{};
  std::array<int16_t, kNumCharacters> byte_of{};  // -1: stands for no byte
};
constexpr ByteLevelTables kByteLevel;

int HexValue(char c) {
  return absl::ascii_isdigit(c) ? c - '0' : absl::ascii_toupper(c) - 'A' + 10;
}

}  // namespace

void AppendByteLevel(absl::string_view bytes, std::string* out) {
  for (const char c : bytes) {
    const char16_t character = kByteLevel.character_of[static_cast<unsigned char>(c)];
    if (character < 0x80) {
      out->push_back(static_cast<char>(character));
    } else {  // all are below U+0800
      out->push_back(static_cast<char>(0xC0 | character >> 6));
      out->push_back(static_cast<char>(0x80 | (character & 0x3F)));
    }
  }
}

std::optional<uint8_t> ByteOfByteLevel(char32_t character) {
  if (character >= kNumCharacters || kByteLevel.byte_of[character] < 0) return std::nullopt;
  return static_cast<uint8_t>(kByteLevel.byte_of[character]);
}

std::string ByteFallbackToken(uint8_t byte) {
  return {'<', '0', 'x', kHexDigits[byte >> 4], kHexDigits[byte & 15], '>'};
}

std::optional<uint8_t> ByteOfFallbackToken(absl::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>' ||
      !absl::ascii_isxdigit(token[3]) || !absl::ascii_isxdigit(token[4])) {
    return std::nullopt;
  }
  return static_cast<uint8_t>(HexValue(token[3]) << 4 | HexValue(token[4]));
}

}  // namespace moelight
