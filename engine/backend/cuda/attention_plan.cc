#include "engine/backend/cuda/attention_plan.h"

#include <algorithm>
#include <cstring>

#include "engine/base/check.h"

namespace moelight {
namespace {

constexpr int64_t kItemWords = sizeof(AttentionItem) / sizeof(int32_t);
static_assert(kItemWords * sizeof(int32_t) == sizeof(AttentionItem));

int32_t CeilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }

// Pages up to the last new token.
int32_t NumPages(const AttentionSequence& sequence, int32_t page_tokens) {
  return CeilDiv(sequence.num_cached_tokens + sequence.num_tokens, page_tokens);
}

}  // namespace

int64_t AttentionPlan::Bytes(const HeadGeometry& heads, int64_t num_tokens, int64_t num_sequences,
                             int64_t num_pages) {
  const int64_t group_size =
      heads.num_key_value_heads > 0 ? heads.num_attention_heads / heads.num_key_value_heads : 1;
  // Each sequence ends with at most one block that is not full.
  const int64_t num_items = num_sequences + num_tokens * group_size / kAttentionBlockRows;
  return static_cast<int64_t>(sizeof(int32_t)) * (num_items * kItemWords + num_pages + num_tokens);
}

void AttentionPlan::Reserve(const OpLimits& limits) {
  words_.reserve(
      Bytes(limits.heads, limits.max_tokens, limits.max_sequences, limits.max_step_pages) /
      static_cast<int64_t>(sizeof(int32_t)));
}

void AttentionPlan::AppendItems(const AttentionSequence& sequence, int32_t group_size,
                                int32_t first_page) {
  AttentionItem item;
  item.num_stacked_rows = sequence.num_tokens * group_size;
  item.first_row = sequence.first_row;
  item.num_cached_tokens = sequence.num_cached_tokens;
  item.first_page = first_page;
  // The last blocks see the most keys, so they go first.
  for (int32_t b = CeilDiv(item.num_stacked_rows, kAttentionBlockRows) - 1; b >= 0; --b) {
    item.first_stacked_row = b * kAttentionBlockRows;
    words_.resize(words_.size() + kItemWords);
    std::memcpy(&words_[words_.size() - kItemWords], &item, sizeof(item));
    ++num_items_;
  }
}

void AttentionPlan::Build(const AttentionArgs& args) {
  const int32_t group_size = args.heads.num_attention_heads / args.heads.num_key_value_heads;
  words_.clear();
  num_items_ = 0;
  int32_t num_pages = 0;
  for (const AttentionSequence& sequence : args.sequences) {
    AppendItems(sequence, group_size, num_pages);
    num_pages += NumPages(sequence, args.kv.page_tokens);
  }
  first_table_word_ = static_cast<int64_t>(words_.size());
  for (const AttentionSequence& sequence : args.sequences) {
    words_.insert(words_.end(), sequence.block_table,
                  sequence.block_table + NumPages(sequence, args.kv.page_tokens));
  }
  first_place_word_ = static_cast<int64_t>(words_.size());
  words_.resize(words_.size() + args.qkv.dim(0), -1);
  for (const AttentionSequence& sequence : args.sequences) {
    for (int32_t i = 0; i < sequence.num_tokens; ++i) {
      const int32_t position = sequence.num_cached_tokens + i;
      const int32_t page = sequence.block_table[position / args.kv.page_tokens];
      CHECK(page >= 0 && page < args.kv.num_pages)
          << "page " << page << " of " << args.kv.num_pages;
      words_[first_place_word_ + sequence.first_row + i] =
          page * args.kv.page_tokens + position % args.kv.page_tokens;
    }
  }
}

AttentionParams AttentionPlan::Params(const AttentionArgs& args, const void* plan) const {
  const auto* words = static_cast<const int32_t*>(plan);
  AttentionParams params;
  params.qkv = args.qkv.as<float>();
  params.out = args.out.as<float>();
  params.kv = args.kv.data;
  params.items = reinterpret_cast<const AttentionItem*>(words);
  params.block_tables = words + first_table_word_;
  params.token_places = words + first_place_word_;
  params.num_items = num_items_;
  params.num_tokens = args.qkv.dim(0);
  params.num_attention_heads = args.heads.num_attention_heads;
  params.num_key_value_heads = args.heads.num_key_value_heads;
  params.head_dim = args.heads.head_dim;
  params.page_tokens = args.kv.page_tokens;
  params.sliding_window = args.sliding_window;
  params.scale = args.scale;
  return params;
}

}  // namespace moelight
