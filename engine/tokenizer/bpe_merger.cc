#include "engine/tokenizer/bpe_merger.h"

#include <algorithm>
#include <array>

namespace moelight {
namespace {

// Up to here scanning all pairs for the best beats keeping a heap; nearly all words are shorter.
constexpr size_t kMaxShortSymbols = 32;

// std heaps keep the largest first, so "less" is "applied later".
bool AppliedLater(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rule != b.rule ? a.rule > b.rule : a.position > b.position;
}

}  // namespace

void BpeMerger::Merge(BpeScratch* scratch, std::vector<TokenId>* out) const {
  const absl::Span<const TokenId> symbols = scratch->symbols;
  size_t begin = 0;
  if (cuts_enabled_ && symbols.size() > kMaxShortSymbols) {
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (joints_.contains(PairKey(symbols[i], symbols[i + 1]))) continue;
      MergeSegment(symbols.subspan(begin, i + 1 - begin), scratch, out);
      begin = i + 1;
    }
  }
  MergeSegment(symbols.subspan(begin), scratch, out);
}

void BpeMerger::MergeSegment(absl::Span<const TokenId> symbols, BpeScratch* scratch,
                             std::vector<TokenId>* out) const {
  if (symbols.size() <= kMaxShortSymbols) {
    MergeShort(symbols, out);
  } else {
    MergeLong(symbols, scratch, out);
  }
}

void BpeMerger::MergeShort(absl::Span<const TokenId> symbols, std::vector<TokenId>* out) const {
  std::array<TokenId, kMaxShortSymbols> ids;
  std::array<uint64_t, kMaxShortSymbols> rules;  // rules[i] joins ids[i] and ids[i + 1]
  size_t size = symbols.size();
  std::copy(symbols.begin(), symbols.end(), ids.begin());
  for (size_t i = 0; i + 1 < size; ++i) rules[i] = FindRule(ids[i], ids[i + 1]);
  while (size > 1) {
    const auto rules_end = rules.begin() + size - 1;
    const auto best = std::min_element(rules.begin(), rules_end);  // the first of equals
    if (*best == kNoRule) break;
    const size_t i = static_cast<size_t>(best - rules.begin());
    ids[i] = MergedToken(*best);
    std::copy(ids.begin() + i + 2, ids.begin() + size, ids.begin() + i + 1);
    std::copy(best + 1, rules_end, best);
    --size;
    if (i > 0) rules[i - 1] = FindRule(ids[i - 1], ids[i]);
    if (i + 1 < size) rules[i] = FindRule(ids[i], ids[i + 1]);
  }
  out->insert(out->end(), ids.begin(), ids.begin() + size);
}

void BpeMerger::MergeLong(absl::Span<const TokenId> symbols, BpeScratch* scratch,
                          std::vector<TokenId>* out) const {
  std::vector<BpeScratch::Node>& nodes = scratch->nodes;
  std::vector<BpeScratch::Candidate>& heap = scratch->heap;
  const auto size = static_cast<int32_t>(symbols.size());
  nodes.clear();
  heap.clear();
  for (int32_t i = 0; i < size; ++i) {
    const bool last = i + 1 == size;
    const uint64_t rule = last ? kNoRule : FindRule(symbols[i], symbols[i + 1]);
    nodes.push_back({symbols[i], i - 1, last ? -1 : i + 1, rule});
    if (rule != kNoRule) heap.push_back({rule, i});
  }
  std::make_heap(heap.begin(), heap.end(), AppliedLater);
  const auto refresh = [&](int32_t i) {
    BpeScratch::Node& node = nodes[i];
    node.rule = node.next < 0 ? kNoRule : FindRule(node.id, nodes[node.next].id);
    if (node.rule == kNoRule) return;
    heap.push_back({node.rule, i});
    std::push_heap(heap.begin(), heap.end(), AppliedLater);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), AppliedLater);
    const BpeScratch::Candidate best = heap.back();
    heap.pop_back();
    BpeScratch::Node& node = nodes[best.position];
    if (node.rule != best.rule) continue;  // a neighbour changed since
    BpeScratch::Node& right = nodes[node.next];
    node.id = MergedToken(best.rule);
    node.next = right.next;
    right.rule = kNoRule;
    if (node.next >= 0) nodes[node.next].previous = best.position;
    refresh(best.position);
    if (node.previous >= 0) refresh(node.previous);
  }
  for (int32_t i = 0; i >= 0; i = nodes[i].next) out->push_back(nodes[i].id);
}

}  // namespace moelight
