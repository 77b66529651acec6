#include "engine/tokenizer/added_tokens_trie.h"

#include "engine/base/check.h"

namespace moelight {

void AddedTokensTrie::Add(absl::string_view pattern, TokenId token) {
  CHECK(!pattern.empty());
  first_bytes_.set(static_cast<unsigned char>(pattern[0]));
  uint32_t node = 0;
  for (const char byte : pattern) {
    const auto [edge, is_new] =
        children_.emplace(Edge(node, byte), static_cast<uint32_t>(token_.size()));
    if (is_new) token_.push_back(kNoToken);
    node = edge->second;
  }
  token_[node] = token;
}

std::optional<TrieMatch> AddedTokensTrie::Find(absl::string_view text, size_t begin,
                                               size_t end) const {
  for (size_t start = begin; start < end; ++start) {
    if (!first_bytes_[static_cast<unsigned char>(text[start])]) continue;
    std::optional<TrieMatch> longest;
    uint32_t node = 0;
    for (size_t pos = start; pos < end; ++pos) {
      const auto edge = children_.find(Edge(node, text[pos]));
      if (edge == children_.end()) break;
      node = edge->second;
      if (token_[node] != kNoToken) longest = {start, pos + 1, token_[node]};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace moelight
