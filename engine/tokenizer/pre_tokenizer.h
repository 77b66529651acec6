// Pre-tokenizers of tokenizer.json: how normalized text is cut into the words that BPE sees.
//
// Threads: immutable, thread-safe. To add a type: a class and a row of the table in
// pre_tokenizer.cc.
#ifndef MOELIGHT_ENGINE_TOKENIZER_PRE_TOKENIZER_H_
#define MOELIGHT_ENGINE_TOKENIZER_PRE_TOKENIZER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <nlohmann/json.hpp>

namespace moelight {

// A word: bytes [begin, end) of PreTokens::text, never empty.
struct PreToken {
  size_t begin = 0;
  size_t end = 0;
  bool at_text_start = false;  // it begins where the whole input begins
};

struct PreTokens {
  std::string text;
  std::vector<PreToken> words;  // disjoint, in order

  absl::string_view Word(const PreToken& word) const {
    return absl::string_view(text).substr(word.begin, word.end - word.begin);
  }
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Cuts, rewrites or drops words.
  virtual absl::Status Apply(PreTokens* tokens) const = 0;
};

// Reads the "pre_tokenizer" section; JSON null gives the pre-tokenizer that changes nothing.
absl::StatusOr<std::unique_ptr<PreTokenizer>> MakePreTokenizer(const nlohmann::json& config);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_PRE_TOKENIZER_H_
