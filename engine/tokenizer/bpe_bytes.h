// The two spellings of raw bytes in BPE vocabularies: byte-level characters and <0xNN> tokens.
//
// Pure functions over constant tables, thread-safe.
#ifndef MOELIGHT_ENGINE_TOKENIZER_BPE_BYTES_H_
#define MOELIGHT_ENGINE_TOKENIZER_BPE_BYTES_H_

#include <cstdint>
#include <optional>
#include <string>

#include <absl/strings/string_view.h>

namespace moelight {

// Byte-level vocabularies write each byte as one printable character: itself if it is printable
// Latin-1, otherwise U+0100 and up in byte order. Appends the characters for `bytes` to `out`.
void AppendByteLevel(absl::string_view bytes, std::string* out);

// The byte that `character` stands for; nullopt if none.
std::optional<uint8_t> ByteOfByteLevel(char32_t character);

std::string ByteFallbackToken(uint8_t byte);  // 10 gives "<0x0A>"

// The byte that `token` spells; nullopt if it is no byte token.
std::optional<uint8_t> ByteOfFallbackToken(absl::string_view token);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_BPE_BYTES_H_
