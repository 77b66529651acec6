// AddedTokensTrie: finds the longest of many strings at a place of a text.
//
// Threads: immutable once filled, thread-safe.
#ifndef MOELIGHT_ENGINE_TOKENIZER_ADDED_TOKENS_TRIE_H_
#define MOELIGHT_ENGINE_TOKENIZER_ADDED_TOKENS_TRIE_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/strings/string_view.h>

#include "engine/request.h"

namespace moelight {

struct TrieMatch {
  size_t begin = 0;
  size_t end = 0;
  TokenId token = 0;
};

class AddedTokensTrie {
 public:
  // REQUIRES: `pattern` is not empty. A pattern added twice finds the later token.
  void Add(absl::string_view pattern, TokenId token);
  bool empty() const { return token_.size() == 1; }

  // The leftmost match in text[begin, end), the longest of those that begin there.
  std::optional<TrieMatch> Find(absl::string_view text, size_t begin, size_t end) const;

 private:
  static constexpr TokenId kNoToken = -1;
  static uint64_t Edge(uint32_t node, char byte) {
    return uint64_t{node} << 8 | static_cast<unsigned char>(byte);
  }

  std::vector<TokenId> token_ = {kNoToken};           // by node: the pattern that ends there
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // by Edge()
  std::bitset<256> first_bytes_;  // of all patterns: most places of a text need no more than this
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_ADDED_TOKENS_TRIE_H_
