// TokenizerPattern: what Split and Replace search for, a literal string or a regex.
//
// Threads: immutable, thread-safe.
#ifndef MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_PATTERN_H_
#define MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_PATTERN_H_

#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <nlohmann/json.hpp>

#include "engine/tokenizer/unicode_regex.h"

namespace moelight {

class TokenizerPattern {
 public:
  // Reads `config`["pattern"], {"String": ...} or {"Regex": ...}.
  static absl::StatusOr<TokenizerPattern> FromJson(const nlohmann::json& config,
                                                   const std::string& section);

  // Appends every match, left to right and disjoint.
  absl::Status FindAll(absl::string_view text, std::vector<ByteSpan>* matches) const;

 private:
  std::string literal_;                  // used if there is no regex; never empty then
  std::unique_ptr<UnicodeRegex> regex_;  // null: literal
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_PATTERN_H_
