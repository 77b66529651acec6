// BpeModel: a byte-pair-encoding vocabulary and its merge rules, as the "model" of tokenizer.json.
//
// Threads: immutable after Create(), thread-safe; the scratch belongs to one caller at a time.
// Errors: Create() gives InvalidArgument naming the section, the item and the rule.
#ifndef MOELIGHT_ENGINE_TOKENIZER_BPE_MODEL_H_
#define MOELIGHT_ENGINE_TOKENIZER_BPE_MODEL_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/request.h"
#include "engine/tokenizer/bpe_merger.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace moelight {

class BpeModel {
 public:
  // Takes the lists out of `json`.
  static absl::StatusOr<BpeModel> Create(TokenizerJson& json);
  BpeModel(BpeModel&&) = default;

  // Appends the tokens of one pre-tokenized word (valid UTF-8). InvalidArgument if a character is
  // unknown and the unknown token that should replace it is not in the vocabulary.
  absl::Status Encode(absl::string_view word, BpeScratch* scratch, std::vector<TokenId>* out) const;

  std::optional<TokenId> TokenToId(absl::string_view token) const;
  absl::string_view IdToToken(TokenId id) const;                                    // empty if none
  int32_t vocab_size() const { return static_cast<int32_t>(index_of_id_.size()); }  // largest id+1

 private:
  BpeModel() = default;
  absl::Status ReadOptions(const nlohmann::json& config);
  absl::Status IndexVocab(const std::vector<int64_t>& ids);
  absl::Status IndexMerges(const StringList& parts);
  void IndexCharacters();
  // Whether `token` stands for characters that have no token of their own.
  bool IsFallbackToken(absl::string_view token) const;

  // The token of one character of a word, with the prefix and suffix its place asks for.
  std::optional<TokenId> CharacterToken(absl::string_view word, size_t begin, size_t end) const;
  absl::Status SplitCharacters(absl::string_view word, std::vector<TokenId>* symbols) const;
  bool AppendByteTokens(absl::string_view character, std::vector<TokenId>* symbols) const;

  std::optional<std::string> unknown_token_;
  std::optional<TokenId> unknown_id_;  // unset: not in the vocabulary
  std::string word_prefix_;            // continuing_subword_prefix, on all but the first character
  std::string word_suffix_;            // end_of_word_suffix, on the last character
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;  // a word that is a token is not merged from its characters

  StringList tokens_;
  std::vector<int32_t> index_of_id_;                          // into tokens_; -1: no such id
  absl::flat_hash_map<absl::string_view, TokenId> token_id_;  // keys point into tokens_
  std::vector<TokenId> bmp_id_;       // by character below U+10000; -1: no such token
  std::array<TokenId, 256> byte_id_;  // of <0xNN>; -1: no such token
  BpeMerger merger_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_BPE_MODEL_H_
