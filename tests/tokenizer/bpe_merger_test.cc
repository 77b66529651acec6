// Goal: both ways of merging, with and without cuts, do what the plain definition says.
#include "engine/tokenizer/bpe_merger.h"

#include <map>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace moelight {
namespace {

struct Rule {
  uint32_t rank;
  TokenId merged;
};
using Rules = std::map<std::pair<TokenId, TokenId>, Rule>;

// Applies the rule of lowest rank, leftmost first, until none applies.
std::vector<TokenId> MergePlainly(std::vector<TokenId> symbols, const Rules& rules) {
  while (true) {
    const Rule* best = nullptr;
    size_t best_position = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto it = rules.find({symbols[i], symbols[i + 1]});
      if (it != rules.end() && (best == nullptr || it->second.rank < best->rank)) {
        best = &it->second;
        best_position = i;
      }
    }
    if (best == nullptr) return symbols;
    symbols[best_position] = best->merged;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best_position) + 1);
  }
}

constexpr TokenId kNumCharacters = 6;

// A random vocabulary as training makes it: every merge joins two tokens that exist.
struct RandomVocab {
  explicit RandomVocab(std::mt19937& random) {
    std::vector<std::pair<TokenId, TokenId>> ends;  // first and last character of each token
    for (TokenId id = 0; id < kNumCharacters; ++id) ends.push_back({id, id});
    for (uint32_t rank = 0; rank < 40; ++rank) {
      const auto pick = [&] { return static_cast<TokenId>(random() % ends.size()); };
      const TokenId left = pick();
      const TokenId right = pick();
      if (rules.contains({left, right})) continue;
      const auto merged = static_cast<TokenId>(ends.size());
      rules[{left, right}] = {rank, merged};
      for (BpeMerger* merger : {&with_cuts, &without_cuts}) {
        merger->AddRule(left, right, rank, merged);
        merger->AddJoint(ends[left].second, ends[right].first);
      }
      ends.push_back({ends[left].first, ends[right].second});
    }
    with_cuts.EnableCuts();
  }
  Rules rules;
  BpeMerger with_cuts;
  BpeMerger without_cuts;
};

TEST(BpeMergerTest, MergesAsDefined) {
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    const RandomVocab vocab(random);
    BpeScratch scratch;
    for (const size_t size : {0, 1, 2, 3, 31, 32, 33, 34, 100, 257}) {
      std::vector<TokenId> symbols(size);
      for (TokenId& symbol : symbols) symbol = static_cast<TokenId>(random() % kNumCharacters);
      const std::vector<TokenId> expected = MergePlainly(symbols, vocab.rules);
      for (const BpeMerger* merger : {&vocab.with_cuts, &vocab.without_cuts}) {
        scratch.symbols = symbols;
        std::vector<TokenId> merged;
        merger->Merge(&scratch, &merged);
        EXPECT_EQ(merged, expected) << "size " << size;
      }
    }
  }
}

// A quadratic merge would take minutes here.
TEST(BpeMergerTest, MergesAMillionEqualSymbols) {
  BpeMerger merger;
  for (TokenId id = 0; id < 10; ++id) merger.AddRule(id, id, static_cast<uint32_t>(id), id + 1);
  BpeScratch scratch;
  scratch.symbols.assign(1 << 20, 0);
  std::vector<TokenId> merged;
  merger.Merge(&scratch, &merged);
  EXPECT_EQ(merged, std::vector<TokenId>(1 << 10, 10));
}

}  // namespace
}  // namespace moelight
