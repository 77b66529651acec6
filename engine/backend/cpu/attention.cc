#include "engine/backend/cpu/attention.h"

namespace moelight {
namespace {

// What an item costs beside its keys, in keys times rows: its queries are packed, its rows written.
constexpr int64_t kItemCost = 64;
// Transposing a key costs about as much as four query rows' use of it.
constexpr int64_t kKeyCostRows = 4;
// Ranges per thread. More than elsewhere, because the estimate of their cost is rough.
constexpr int64_t kRangesPerThread = 8;

int32_t GroupSize(const HeadGeometry& heads) {
  return heads.num_attention_heads / heads.num_key_value_heads;
}

int32_t TokensPerItem(const HeadGeometry& heads) {
  return std::max(1, kAttentionRows / GroupSize(heads));
}

int64_t KvElements(const AttentionArgs& args, int part, int32_t kv_head, int64_t row) {
  const int64_t head = int64_t{part} * args.heads.num_key_value_heads + kv_head;
  return (head * args.kv.page_tokens + row) * args.heads.head_dim;
}

}  // namespace

int64_t CpuAttention::WorkerScratchBytes(const OpLimits& limits, const CpuKernels& kernels) {
  const int64_t num_rows = int64_t{TokensPerItem(limits.heads)} * GroupSize(limits.heads);
  return kernels.attention_scratch_bytes(num_rows, limits.heads.head_dim);
}

void CpuAttention::Reserve(const OpLimits& limits) {
  const int64_t num_blocks =
      limits.max_tokens / TokensPerItem(limits.heads) + limits.max_sequences + 1;
  items_.reserve(num_blocks * limits.heads.num_key_value_heads);
  range_ends_.reserve(2 * kRangesPerThread * context_->runner.num_threads() + 1);
}

void CpuAttention::Run(const AttentionArgs& args) {
  CHECK_LE(args.heads.head_dim, kMaxHeadDim);
  const int32_t tokens_per_item = TokensPerItem(args.heads);
  // Where a sequence has several items, each needs the K and V of those before it.
  for (const AttentionSequence& sequence : args.sequences) {
    if (sequence.num_tokens <= tokens_per_item) continue;
    context_->runner.For(sequence.num_tokens, kMinTaskElements / args.heads.kv_size() + 1,
                         [&](int64_t begin, int64_t end) {
                           for (int32_t head = 0; head < args.heads.num_key_value_heads; ++head) {
                             StoreKv(args, sequence, head, static_cast<int32_t>(begin),
                                     static_cast<int32_t>(end));
                           }
                         });
  }
  ListItems(args);
  ListRanges();
  context_->runner.For(static_cast<int64_t>(range_ends_.size()), 1,
                       [&](int64_t begin, int64_t end) {
                         const int64_t first = begin == 0 ? 0 : range_ends_[begin - 1];
                         RunItems(args, first, range_ends_[end - 1]);
                       });
}

void CpuAttention::ListItems(const AttentionArgs& args) {
  items_.clear();
  const int32_t tokens_per_item = TokensPerItem(args.heads);
  const int32_t group_size = GroupSize(args.heads);
  for (size_t s = 0; s < args.sequences.size(); ++s) {
    const AttentionSequence& sequence = args.sequences[s];
    for (int32_t begin = 0; begin < sequence.num_tokens; begin += tokens_per_item) {
      const int32_t num_tokens = std::min(tokens_per_item, sequence.num_tokens - begin);
      int64_t num_keys = int64_t{sequence.num_cached_tokens} + begin + num_tokens;
      if (args.sliding_window > 0) {
        num_keys = std::min<int64_t>(num_keys, int64_t{args.sliding_window} + num_tokens);
      }
      const int64_t cost = kItemCost + num_keys * (num_tokens * group_size + kKeyCostRows);
      for (int32_t head = 0; head < args.heads.num_key_value_heads; ++head) {
        items_.push_back({static_cast<int32_t>(s), head, begin, num_tokens, cost});
      }
    }
  }
}

void CpuAttention::ListRanges() {
  range_ends_.clear();
  if (items_.empty()) return;
  int64_t total = 0;
  for (const Item& item : items_) total += item.cost;
  const int64_t target =
      std::max<int64_t>(1, total / (kRangesPerThread * context_->runner.num_threads()));
  // Items above the target come first and alone: one that began last would keep the others waiting.
  const auto short_items = std::partition(items_.begin(), items_.end(),
                                          [&](const Item& item) { return item.cost > target; });
  int64_t cost = 0;
  for (auto item = items_.begin(); item != items_.end(); ++item) {
    cost += item->cost;
    if (cost < target && item + 1 != items_.end() && item + 1 != short_items) continue;
    range_ends_.push_back(item + 1 - items_.begin());
    cost = 0;
  }
}

void CpuAttention::StoreKv(const AttentionArgs& args, const AttentionSequence& sequence,
                           int32_t kv_head, int32_t begin, int32_t end) const {
  const HeadGeometry& heads = args.heads;
  const int64_t page_elements = args.kv.page_elements(heads);
  for (int32_t token = begin; token < end; ++token) {
    const int32_t position = sequence.num_cached_tokens + token;
    const int32_t page = sequence.block_table[position / args.kv.page_tokens];
    DCHECK(page >= 0 && page < args.kv.num_pages);
    uint16_t* to = static_cast<uint16_t*>(args.kv.data) + page * page_elements;
    const int64_t row = position % args.kv.page_tokens;
    const float* k = args.qkv.as<float>() + int64_t{sequence.first_row + token} * heads.qkv_size() +
                     heads.q_size() + int64_t{kv_head} * heads.head_dim;
    context_->kernels.f32_to_bf16(k, heads.head_dim, to + KvElements(args, 0, kv_head, row));
    context_->kernels.f32_to_bf16(k + heads.kv_size(), heads.head_dim,
                                  to + KvElements(args, 1, kv_head, row));
  }
}

void CpuAttention::RunItems(const AttentionArgs& args, int64_t begin, int64_t end) const {
  AttentionCall next = MakeCall(args, items_[begin]);
  for (int64_t i = begin; i < end; ++i) {
    const Item& item = items_[i];
    const AttentionSequence& sequence = args.sequences[item.sequence];
    if (item.num_tokens == sequence.num_tokens) {
      StoreKv(args, sequence, item.kv_head, 0, item.num_tokens);
    }
    AttentionCall call = next;
    if (i + 1 < end) {
      next = MakeCall(args, items_[i + 1]);
      call.next = &next;
    }
    context_->kernels.attention(call);
  }
}

AttentionCall CpuAttention::MakeCall(const AttentionArgs& args, const Item& item) const {
  const HeadGeometry& heads = args.heads;
  const AttentionSequence& sequence = args.sequences[item.sequence];
  const int32_t group_size = GroupSize(heads);
  const int64_t num_rows = int64_t{item.num_tokens} * group_size;
  const int64_t first_row = sequence.first_row + item.token_begin;
  const int64_t first_head = int64_t{item.kv_head} * group_size * heads.head_dim;
  AttentionCall call;
  call.q = args.qkv.as<float>() + first_row * heads.qkv_size() + first_head;
  call.q_stride = heads.qkv_size();
  call.num_tokens = item.num_tokens;
  call.group_size = group_size;
  call.head_dim = heads.head_dim;
  call.first_position = sequence.num_cached_tokens + item.token_begin;
  call.sliding_window = args.sliding_window;
  call.scale = args.scale;
  call.k = static_cast<const uint16_t*>(args.kv.data) + KvElements(args, 0, item.kv_head, 0);
  call.v_offset = KvElements(args, 1, 0, 0);
  call.page_stride = args.kv.page_elements(heads);
  call.page_tokens = args.kv.page_tokens;
  call.block_table = sequence.block_table;
  call.out = args.out.as<float>() + first_row * heads.q_size() + first_head;
  call.out_stride = heads.q_size();
  call.scratch =
      context_->WorkerScratch(context_->kernels.attention_scratch_bytes(num_rows, heads.head_dim));
  return call;
}

}  // namespace moelight
