#include "engine/backend/cpu/attention.h"

namespace moelight {
namespace {

// What an item costs beside its keys, in keys times rows: its queries are packed, its rows written.
constexpr int64_t kItemCost = 64;
// Transposing a key costs about as much as four query rows' use of it.
constexpr int64_t kKeyCostRows = 4;
// Ranges per thread. More than elsewhere, because the estimate of their cost is rough.
constexpr int64_t kRangesPerThread = 8;

// Segments whose results wait to be merged, per thread. A sequence is cut into pieces that cost a
// range each, so that there are about twice kRangesPerThread pieces per thread; this many let a
// piece have several segments.
constexpr int64_t kPartialsPerThread = 128;

int32_t GroupSize(const HeadGeometry& heads) {
  return heads.num_attention_heads / heads.num_key_value_heads;
}

int32_t TokensPerItem(const HeadGeometry& heads) {
  return std::max(1, kAttentionRows / GroupSize(heads));
}

KvElement ElementOf(DType dtype) {
  if (dtype == DType::kF16) return KvElement::kF16;
  return dtype == DType::kI8 ? KvElement::kI8 : KvElement::kBf16;
}

// Where the block of K (part 0) or V (part 1) of a head begins in a page.
int64_t BlockOffset(const AttentionArgs& args, int part, int32_t kv_head) {
  return (int64_t{part} * args.heads.num_key_value_heads + kv_head) *
         args.kv.block_bytes(args.heads);
}

int64_t ElementRowBytes(const AttentionArgs& args) {
  return args.heads.head_dim * DTypeBytes(args.kv.dtype);
}

int32_t NumSegments(int32_t position_begin, int32_t position_end) {
  return (position_end - 1) / kSegmentKeys - position_begin / kSegmentKeys + 1;
}

}  // namespace

CpuAttention::CpuAttention(CpuContext* context, DType kv_dtype)
    : context_(context), kv_dtype_(kv_dtype), element_(ElementOf(kv_dtype)) {}

int64_t CpuAttention::WorkerScratchBytes(const OpLimits& limits, const CpuKernels& kernels) {
  const int64_t num_rows = int64_t{TokensPerItem(limits.heads)} * GroupSize(limits.heads);
  return kernels.attention_scratch_bytes(num_rows, limits.heads.head_dim);
}

int64_t CpuAttention::ScratchBytes(const OpLimits& limits) const {
  return kPartialsPerThread * context_->runner.num_threads() * GroupSize(limits.heads) *
         context_->kernels.attention_partial_floats(limits.heads.head_dim) *
         static_cast<int64_t>(sizeof(float));
}

absl::Status CpuAttention::Reserve(const OpLimits& limits) {
  const int64_t num_blocks =
      limits.max_tokens / TokensPerItem(limits.heads) + limits.max_sequences + 1;
  const int64_t max_partials = kPartialsPerThread * context_->runner.num_threads();
  const int64_t max_items = num_blocks * limits.heads.num_key_value_heads + max_partials;
  items_.reserve(max_items);
  split_items_.reserve(max_items);
  merges_.reserve(max_partials);
  range_ends_.reserve(2 * kRangesPerThread * context_->runner.num_threads() + 1);
  return partials_.Resize(ScratchBytes(limits), "the partial results of attention");
}

void CpuAttention::Run(const AttentionArgs& args) {
  CHECK_LE(args.heads.head_dim, kMaxHeadDim);
  if (args.sequences.empty()) return;
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
  int64_t total = 0;
  for (const Item& item : items_) total += item.cost;
  const int64_t target =
      std::max<int64_t>(1, total / (kRangesPerThread * context_->runner.num_threads()));
  SplitItems(target);
  ListRanges(target);
  context_->runner.For(static_cast<int64_t>(range_ends_.size()), 1,
                       [&](int64_t begin, int64_t end) {
                         const int64_t first = begin == 0 ? 0 : range_ends_[begin - 1];
                         RunItems(args, first, range_ends_[end - 1]);
                       });
  context_->runner.For(static_cast<int64_t>(merges_.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) RunMerge(args, merges_[i]);
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
      const int32_t first_position = sequence.num_cached_tokens + begin;
      // Positions before that may lie in pages that are no longer the sequence's own.
      const int32_t position_begin =
          args.sliding_window > 0 ? std::max(0, first_position + 1 - args.sliding_window) : 0;
      const int32_t position_end = first_position + num_tokens;
      const int64_t num_keys = position_end - position_begin;
      const int64_t cost = kItemCost + num_keys * (num_tokens * group_size + kKeyCostRows);
      for (int32_t head = 0; head < args.heads.num_key_value_heads; ++head) {
        items_.push_back({static_cast<int32_t>(s), head, begin, num_tokens, position_begin,
                          position_end, /*first_partial=*/-1, cost});
      }
    }
  }
}

void CpuAttention::SplitItems(int64_t target) {
  merges_.clear();
  num_partials_ = 0;
  const int64_t max_partials = kPartialsPerThread * context_->runner.num_threads();
  split_items_.clear();
  for (const Item& item : items_) {
    const int32_t num_segments = NumSegments(item.position_begin, item.position_end);
    const bool split = item.num_tokens == 1 && item.cost > target && num_segments > 1 &&
                       num_partials_ + num_segments <= max_partials;
    if (split) {
      SplitItem(item, target);
    } else {
      split_items_.push_back(item);
    }
  }
  items_.swap(split_items_);
}

void CpuAttention::SplitItem(const Item& item, int64_t target) {
  const int32_t num_segments = NumSegments(item.position_begin, item.position_end);
  merges_.push_back({item.sequence, item.kv_head, num_partials_, num_segments});
  const int32_t num_keys = item.position_end - item.position_begin;
  const int64_t segment_cost = std::max<int64_t>(1, item.cost * kSegmentKeys / num_keys);
  const int32_t piece_keys =
      static_cast<int32_t>(std::clamp<int64_t>(target / segment_cost, 1, num_segments)) *
      kSegmentKeys;
  Item piece = item;
  while (piece.position_begin < item.position_end) {
    const int32_t segment_begin = piece.position_begin / kSegmentKeys * kSegmentKeys;
    piece.position_end = std::min(item.position_end, segment_begin + piece_keys);
    piece.first_partial = num_partials_;
    piece.cost = kItemCost +
                 (piece.position_end - piece.position_begin) * ((item.cost - kItemCost) / num_keys);
    num_partials_ += NumSegments(piece.position_begin, piece.position_end);
    split_items_.push_back(piece);
    piece.position_begin = piece.position_end;
  }
}

void CpuAttention::ListRanges(int64_t target) {
  range_ends_.clear();
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
  const int64_t page_bytes = args.kv.page_bytes(heads);
  const int64_t row_bytes = ElementRowBytes(args);
  StoreKvCall call;
  call.head_dim = heads.head_dim;
  call.element = element_;
  for (int32_t token = begin; token < end; ++token) {
    const int32_t position = sequence.num_cached_tokens + token;
    const int32_t page = sequence.block_table[position / args.kv.page_tokens];
    DCHECK(page >= 0 && page < args.kv.num_pages);
    const int64_t row = position % args.kv.page_tokens;
    const float* k = args.qkv.as<float>() + int64_t{sequence.first_row + token} * heads.qkv_size() +
                     heads.q_size() + int64_t{kv_head} * heads.head_dim;
    for (int part = 0; part < 2; ++part) {
      char* const block =
          static_cast<char*>(args.kv.data) + page * page_bytes + BlockOffset(args, part, kv_head);
      call.x = k + part * heads.kv_size();
      call.row = block + row * row_bytes;
      call.scale = reinterpret_cast<float*>(block + args.kv.page_tokens * row_bytes) + row;
      context_->kernels.store_kv(call);
    }
  }
}

void CpuAttention::RunItems(const AttentionArgs& args, int64_t begin, int64_t end) const {
  AttentionCall next = MakeCall(args, items_[begin]);
  for (int64_t i = begin; i < end; ++i) {
    const Item& item = items_[i];
    const AttentionSequence& sequence = args.sequences[item.sequence];
    const int32_t sequence_end = sequence.num_cached_tokens + sequence.num_tokens;
    if (item.num_tokens == sequence.num_tokens && item.position_end == sequence_end) {
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

void CpuAttention::RunMerge(const AttentionArgs& args, const Merge& merge) const {
  const HeadGeometry& heads = args.heads;
  const int32_t group_size = GroupSize(heads);
  const int64_t first_head = int64_t{merge.kv_head} * group_size;
  AttentionMergeCall call;
  call.element = element_;
  call.partials = PartialAt(merge.first_partial, heads);
  call.num_segments = merge.num_segments;
  call.group_size = group_size;
  call.head_dim = heads.head_dim;
  if (args.sinks.defined()) call.sinks = args.sinks.as<float>() + first_head;
  call.out = args.out.as<float>() + args.sequences[merge.sequence].first_row * heads.q_size() +
             first_head * heads.head_dim;
  call.scratch = context_->WorkerScratch(
      context_->kernels.attention_scratch_bytes(group_size, heads.head_dim));
  context_->kernels.attention_merge(call);
}

float* CpuAttention::PartialAt(int64_t index, const HeadGeometry& heads) const {
  const int64_t floats =
      GroupSize(heads) * context_->kernels.attention_partial_floats(heads.head_dim);
  CHECK_LE((index + 1) * floats * static_cast<int64_t>(sizeof(float)), partials_.size())
      << "beyond Reserve()";
  return partials_.as<float>() + index * floats;
}

AttentionCall CpuAttention::MakeCall(const AttentionArgs& args, const Item& item) const {
  const HeadGeometry& heads = args.heads;
  const AttentionSequence& sequence = args.sequences[item.sequence];
  const int32_t group_size = GroupSize(heads);
  const int64_t num_rows = int64_t{item.num_tokens} * group_size;
  const int64_t first_row = sequence.first_row + item.token_begin;
  const int64_t first_head = int64_t{item.kv_head} * group_size;
  AttentionCall call;
  call.q = args.qkv.as<float>() + first_row * heads.qkv_size() + first_head * heads.head_dim;
  call.q_stride = heads.qkv_size();
  call.num_tokens = item.num_tokens;
  call.group_size = group_size;
  call.head_dim = heads.head_dim;
  call.first_position = sequence.num_cached_tokens + item.token_begin;
  call.position_begin = item.position_begin;
  call.position_end = item.position_end;
  call.sliding_window = args.sliding_window;
  call.scale = args.scale;
  call.soft_cap = args.soft_cap;
  if (args.sinks.defined()) call.sinks = args.sinks.as<float>() + first_head;
  call.element = element_;
  call.k = static_cast<const char*>(args.kv.data) + BlockOffset(args, 0, item.kv_head);
  call.v_offset = BlockOffset(args, 1, 0);
  call.scale_offset = args.kv.page_tokens * ElementRowBytes(args);
  call.page_stride = args.kv.page_bytes(heads);
  call.page_tokens = args.kv.page_tokens;
  call.block_table = sequence.block_table;
  call.out = args.out.as<float>() + first_row * heads.q_size() + first_head * heads.head_dim;
  call.out_stride = heads.q_size();
  if (item.first_partial >= 0) call.partials = PartialAt(item.first_partial, heads);
  call.scratch =
      context_->WorkerScratch(context_->kernels.attention_scratch_bytes(num_rows, heads.head_dim));
  return call;
}

}  // namespace moelight
