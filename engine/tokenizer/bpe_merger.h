// BpeMerger: the merge rules of a BPE vocabulary, applied to the symbols of a word.
//
// Threads: immutable once filled, thread-safe; the scratch belongs to one caller at a time.
#ifndef MOELIGHT_ENGINE_TOKENIZER_BPE_MERGER_H_
#define MOELIGHT_ENGINE_TOKENIZER_BPE_MERGER_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/types/span.h>

#include "engine/request.h"

namespace moelight {

// Buffers that keep their memory from word to word.
struct BpeScratch {
  struct Node {
    TokenId id;
    int32_t previous;  // -1: none
    int32_t next;      // -1: none
    uint64_t rule;     // that joins this node with the next one
  };
  struct Candidate {
    uint64_t rule;
    int32_t position;
  };
  std::vector<TokenId> symbols;  // of the word, filled by the caller of BpeMerger
  std::vector<Node> nodes;
  std::vector<Candidate> heap;
};

class BpeMerger {
 public:
  void Reserve(size_t num_rules) { rules_.reserve(num_rules); }
  // A pair given twice keeps the last rank, as the reference does.
  void AddRule(TokenId left, TokenId right, uint32_t rank, TokenId merged) {
    rules_[PairKey(left, right)] = uint64_t{rank} << 32 | static_cast<uint32_t>(merged);
  }

  // Long words are cut where no merge can ever join two neighbouring symbols, which makes a text
  // without pre-tokenizer as cheap as its words. For this every rule also says which symbols meet
  // where its halves join. Without a call to EnableCuts() nothing is cut.
  void AddJoint(TokenId last_of_left, TokenId first_of_right) {
    joints_.insert(PairKey(last_of_left, first_of_right));
  }
  void EnableCuts() { cuts_enabled_ = true; }

  // Merges scratch->symbols until no rule applies, lowest rank first and then leftmost, and appends
  // what is left to `out`. O(n log n).
  void Merge(BpeScratch* scratch, std::vector<TokenId>* out) const;

 private:
  // Rank in the upper half, merged token in the lower: the smallest rule is the one to apply.
  static constexpr uint64_t kNoRule = std::numeric_limits<uint64_t>::max();
  static uint64_t PairKey(TokenId left, TokenId right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  static TokenId MergedToken(uint64_t rule) { return static_cast<TokenId>(rule & 0xFFFFFFFF); }

  uint64_t FindRule(TokenId left, TokenId right) const {
    const auto it = rules_.find(PairKey(left, right));
    return it == rules_.end() ? kNoRule : it->second;
  }
  void MergeSegment(absl::Span<const TokenId> symbols, BpeScratch* scratch,
                    std::vector<TokenId>* out) const;
  void MergeShort(absl::Span<const TokenId> symbols, std::vector<TokenId>* out) const;
  void MergeLong(absl::Span<const TokenId> symbols, BpeScratch* scratch,
                 std::vector<TokenId>* out) const;

  absl::flat_hash_map<uint64_t, uint64_t> rules_;
  absl::flat_hash_set<uint64_t> joints_;
  bool cuts_enabled_ = false;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_BPE_MERGER_H_
