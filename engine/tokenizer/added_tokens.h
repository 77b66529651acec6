// AddedTokens: the "added_tokens" of tokenizer.json, which are found in text before anything else.
//
// Threads: immutable after Create(), thread-safe.
// Errors: Create() gives InvalidArgument naming the token and the rule.
#ifndef MOELIGHT_ENGINE_TOKENIZER_ADDED_TOKENS_H_
#define MOELIGHT_ENGINE_TOKENIZER_ADDED_TOKENS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>
#include <nlohmann/json.hpp>

#include "engine/request.h"
#include "engine/tokenizer/added_tokens_trie.h"
#include "engine/tokenizer/bpe_model.h"
#include "engine/tokenizer/byte_span.h"
#include "engine/tokenizer/normalizer.h"

namespace moelight {

// A stretch of text that is an added token, or that is text between two.
struct TextSegment {
  size_t begin = 0;
  size_t end = 0;
  std::optional<TokenId> token;
};

class AddedTokens {
 public:
  // `config` is the section, an array or null. Tokens marked "normalized" are searched for as
  // `normalizer` makes them.
  static absl::StatusOr<AddedTokens> Create(const nlohmann::json& config, const BpeModel& model,
                                            const Normalizer& normalizer);

  // Cut raw text at the tokens that are not "normalized", and normalized text at the others. The
  // segments cover `text`; those between tokens are not empty. In `plain_spans` (sorted, disjoint)
  // and across their edges nothing is found, though a token that strips the space around it takes
  // that of a plain span too, as it would any other.
  std::vector<TextSegment> SplitRaw(absl::string_view text,
                                    absl::Span<const ByteSpan> plain_spans) const {
    return Split(raw_, text, plain_spans);
  }
  std::vector<TextSegment> SplitNormalized(absl::string_view text,
                                           absl::Span<const ByteSpan> plain_spans) const {
    return Split(normalized_, text, plain_spans);
  }
  // Whether SplitNormalized() can find anything.
  bool has_normalized() const { return !normalized_.empty(); }

  std::optional<TokenId> TokenToId(absl::string_view token) const;
  absl::string_view IdToToken(TokenId id) const;  // empty if none
  // What decoding makes of the token, which is its content after normalization if it was searched
  // for in that form; empty if none.
  absl::string_view DecodedToken(TokenId id) const;
  bool IsSpecial(TokenId id) const;
  int32_t id_limit() const { return id_limit_; }  // largest id + 1; 0 if there is no token

 private:
  struct Token {
    std::string content;
    std::string pattern;       // what is searched for: `content`, normalized if the token says so
    bool single_word = false;  // only where no letter, mark or digit is beside it
    bool lstrip = false;       // takes white space before it
    bool rstrip = false;       // takes white space behind it
    bool special = false;
  };

  AddedTokens() = default;
  absl::Status Add(const nlohmann::json& entry, const std::string& section, const BpeModel& model,
                   const Normalizer& normalizer);
  std::vector<TextSegment> Split(const AddedTokensTrie& trie, absl::string_view text,
                                 absl::Span<const ByteSpan> plain_spans) const;

  absl::flat_hash_map<TokenId, Token> tokens_;
  absl::flat_hash_map<std::string, TokenId> ids_;
  AddedTokensTrie raw_;
  AddedTokensTrie normalized_;
  int32_t id_limit_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_ADDED_TOKENS_H_
