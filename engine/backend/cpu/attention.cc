#include "engine/backend/cpu/attention.h"

namespace moelight {
namespace {

// What an item costs beside its keys, in keys times rows: its queries are packed, its rows written.
constexpr int64_t kItemCost = 64;
// Transposing a key costs about as much as four query rows' use of it.
constexpr int64_t kKeyCostRows = 4;
// Ranges per thread. More than elsewhere, because the estimate of their cost is rough.
constexpr int64_t kRangesPerThread = 8;

// Segments of all heads whose results may wait to be merged, per thread: four for each of its
// ranges. What finds no room is not split, and its result is the same.
constexpr int64_t kPartialsPerThread = 4 * kRangesPerThread;

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
  const HeadGeometry& heads = limits.heads;
  const int64_t group_size = GroupSize(heads);
  return std::max(
      kernels.attention_scratch_bytes(1, TokensPerItem(heads) * group_size, heads.head_dim),
      kernels.attention_scratch_bytes(heads.num_key_value_heads, group_size, heads.head_dim));
}

int64_t CpuAttention::MaxPartialRows(const HeadGeometry& heads) const {
  return kPartialsPerThread * context_->runner.num_threads() * heads.num_attention_heads;
}

int64_t CpuAttention::ScratchBytes(const OpLimits& limits) const {
  return MaxPartialRows(limits.heads) *
         context_->kernels.attention_partial_floats(limits.heads.head_dim) *
         static_cast<int64_t>(sizeof(float));
}

absl::Status CpuAttention::Reserve(const OpLimits& limits) {
  const HeadGeometry& heads = limits.heads;
  const int64_t num_blocks = limits.max_tokens / TokensPerItem(heads) + limits.max_sequences + 1;
  const int64_t max_pieces =
      kPartialsPerThread * context_->runner.num_threads() * heads.num_key_value_heads;
  const int64_t max_items = num_blocks * heads.num_key_value_heads + max_pieces;
  items_.reserve(max_items);
  split_items_.reserve(max_items);
  merges_.reserve(max_pieces);
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
                           StoreKv(args, sequence, 0, args.heads.num_key_value_heads,
                                   static_cast<int32_t>(begin), static_cast<int32_t>(end));
                         });
  }
  group_size_ = GroupSize(args.heads);
  ListItems(args);
  int64_t total = 0;
  for (const Item& item : items_) total += item.cost;
  const int64_t target =
      std::max<int64_t>(1, total / (kRangesPerThread * context_->runner.num_threads()));
  max_partial_rows_ = MaxPartialRows(args.heads);
  CHECK_LE(max_partial_rows_ * context_->kernels.attention_partial_floats(args.heads.head_dim) *
               static_cast<int64_t>(sizeof(float)),
           partials_.size())
      << "beyond Reserve()";
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
      const int64_t cost = kItemCost + num_keys * (num_tokens * group_size_ + kKeyCostRows);
      const int32_t num_heads = args.heads.num_key_value_heads;
      if (num_tokens == 1) {
        items_.push_back({static_cast<int32_t>(s), 0, num_heads, begin, 1, position_begin,
                          position_end, /*first_partial=*/-1, num_heads * cost});
        continue;
      }
      for (int32_t head = 0; head < num_heads; ++head) {
        items_.push_back({static_cast<int32_t>(s), head, 1, begin, num_tokens, position_begin,
                          position_end, /*first_partial=*/-1, cost});
      }
    }
  }
}

void CpuAttention::SplitItems(int64_t target) {
  merges_.clear();
  num_partial_rows_ = 0;
  split_items_.clear();
  for (const Item& item : items_) {
    if (item.num_tokens == 1 && item.cost > target) {
      SplitItem(item, target);
    } else {
      split_items_.push_back(item);
    }
  }
  items_.swap(split_items_);
}

// Segments come first, since they leave the heads of a page together.
void CpuAttention::SplitItem(const Item& item, int64_t target) {
  const int32_t num_segments = NumSegments(item.position_begin, item.position_end);
  const int64_t num_pieces = (item.cost + target - 1) / target;
  const int32_t num_runs = static_cast<int32_t>(std::min<int64_t>(num_pieces, num_segments));
  const int32_t num_head_runs = static_cast<int32_t>(
      std::min<int64_t>((num_pieces + num_runs - 1) / num_runs, item.num_heads));
  Item piece = item;
  for (int32_t i = 1; i <= num_head_runs; ++i) {
    const int32_t head_end = item.kv_head + item.num_heads * i / num_head_runs;
    piece.num_heads = head_end - piece.kv_head;
    piece.cost = item.cost * piece.num_heads / item.num_heads;
    SplitSegments(piece, num_runs);
    piece.kv_head = head_end;
  }
}

void CpuAttention::SplitSegments(const Item& item, int32_t num_pieces) {
  const int32_t num_segments = NumSegments(item.position_begin, item.position_end);
  const int64_t rows_per_segment = item.num_heads * group_size_;
  if (num_pieces == 1 || num_partial_rows_ + num_segments * rows_per_segment > max_partial_rows_) {
    split_items_.push_back(item);
    return;
  }
  merges_.push_back({item.sequence, item.kv_head, item.num_heads, num_partial_rows_, num_segments});
  const int32_t first_segment = item.position_begin / kSegmentKeys;
  Item piece = item;
  for (int32_t i = 1; i <= num_pieces; ++i) {
    const int32_t segment_end = first_segment + num_segments * i / num_pieces;
    piece.position_end = std::min(item.position_end, segment_end * kSegmentKeys);
    piece.first_partial = num_partial_rows_;
    piece.cost = item.cost * (piece.position_end - piece.position_begin) /
                 (item.position_end - item.position_begin);
    num_partial_rows_ += NumSegments(piece.position_begin, piece.position_end) * rows_per_segment;
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
                           int32_t kv_head, int32_t num_heads, int32_t begin, int32_t end) const {
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
    const float* kv = args.qkv.as<float>() +
                      int64_t{sequence.first_row + token} * heads.qkv_size() + heads.q_size();
    for (int part = 0; part < 2; ++part) {
      for (int32_t head = kv_head; head < kv_head + num_heads; ++head) {
        char* const block =
            static_cast<char*>(args.kv.data) + page * page_bytes + BlockOffset(args, part, head);
        call.x = kv + part * heads.kv_size() + int64_t{head} * heads.head_dim;
        call.row = block + row * row_bytes;
        call.scale = reinterpret_cast<float*>(block + args.kv.page_tokens * row_bytes) + row;
        context_->kernels.store_kv(call);
      }
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
      StoreKv(args, sequence, item.kv_head, item.num_heads, 0, item.num_tokens);
    }
    AttentionCall call = next;
    if (i + 1 < end) {
      next = MakeCall(args, items_[i + 1]);
      next.is_prefetched = true;
      call.next = &next;
    }
    context_->kernels.attention(call);
  }
}

void CpuAttention::RunMerge(const AttentionArgs& args, const Merge& merge) const {
  const HeadGeometry& heads = args.heads;
  const int64_t first_head = merge.kv_head * group_size_;
  AttentionMergeCall call;
  call.element = element_;
  call.partials = PartialRow(merge.first_partial, heads);
  call.num_segments = merge.num_segments;
  call.num_rows = static_cast<int32_t>(merge.num_heads * group_size_);
  call.head_dim = heads.head_dim;
  if (args.sinks.defined()) call.sinks = args.sinks.as<float>() + first_head;
  call.out = args.out.as<float>() + args.sequences[merge.sequence].first_row * heads.q_size() +
             first_head * heads.head_dim;
  call.scratch =
      context_->WorkerScratch(context_->kernels.attention_scratch_bytes(1, 1, heads.head_dim));
  context_->kernels.attention_merge(call);
}

float* CpuAttention::PartialRow(int64_t row, const HeadGeometry& heads) const {
  const int64_t floats = context_->kernels.attention_partial_floats(heads.head_dim);
  CHECK_LT(row, max_partial_rows_) << "beyond Reserve()";
  return partials_.as<float>() + row * floats;
}

AttentionCall CpuAttention::MakeCall(const AttentionArgs& args, const Item& item) const {
  const HeadGeometry& heads = args.heads;
  const AttentionSequence& sequence = args.sequences[item.sequence];
  const int64_t first_row = sequence.first_row + item.token_begin;
  const int64_t first_head = item.kv_head * group_size_;
  AttentionCall call;
  call.q = args.qkv.as<float>() + first_row * heads.qkv_size() + first_head * heads.head_dim;
  call.q_stride = heads.qkv_size();
  call.num_tokens = item.num_tokens;
  call.num_heads = item.num_heads;
  call.group_size = static_cast<int32_t>(group_size_);
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
  call.head_stride = args.kv.block_bytes(heads);
  call.v_offset = BlockOffset(args, 1, 0);
  call.scale_offset = args.kv.page_tokens * ElementRowBytes(args);
  call.page_stride = args.kv.page_bytes(heads);
  call.page_tokens = args.kv.page_tokens;
  call.block_table = sequence.block_table;
  call.out = args.out.as<float>() + first_row * heads.q_size() + first_head * heads.head_dim;
  call.out_stride = heads.q_size();
  if (item.first_partial >= 0) call.partials = PartialRow(item.first_partial, heads);
  call.scratch = context_->WorkerScratch(context_->kernels.attention_scratch_bytes(
      item.num_heads, item.num_tokens * group_size_, heads.head_dim));
  return call;
}

}  // namespace moelight
