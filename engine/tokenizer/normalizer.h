// Normalizers of tokenizer.json: what is done to text before it is cut into words.
//
// Threads: immutable, thread-safe. To add a type: a class and a row of the table in normalizer.cc.
#ifndef MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_H_
#define MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_H_

#include <memory>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <nlohmann/json.hpp>

namespace moelight {

// Text and which of its bytes are plain, that is, in which no added token may be recognised.
// Normalizers carry the marks along: a byte made from plain bytes is plain.
struct NormalizedText {
  std::string text;   // valid UTF-8
  std::string plain;  // one byte per byte of `text`, 1 if plain; empty: none is, nothing to track
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual absl::Status Apply(NormalizedText* text) const = 0;
};

// Reads the "normalizer" section; JSON null gives the normalizer that changes nothing.
absl::StatusOr<std::unique_ptr<Normalizer>> MakeNormalizer(const nlohmann::json& config);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_H_
