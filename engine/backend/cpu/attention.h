// The Attention op of the cpu backend.
//
// The unit of work is an item: new tokens of one sequence against KV heads, over positions. A block
// of a prompt's tokens is an item per head. A decoding sequence is one item for all heads, so that
// memory is read in runs of whole pages; one that is too long for a range of work is cut, first
// into segments of positions, then by heads. Items are dealt to threads in ranges of about equal
// numbers of keys, the long ones first. What the items of a split sequence found is merged at the
// end.
//
// Threads: engine thread. Owns the partial results of split sequences. Allocates in Reserve() only.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_H_

#include <vector>

#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/ops.h"

namespace moelight {

class CpuAttention {
 public:
  CpuAttention(CpuContext* context, DType kv_dtype);

  DType kv_dtype() const { return kv_dtype_; }
  static int64_t WorkerScratchBytes(const OpLimits& limits, const CpuKernels& kernels);
  int64_t ScratchBytes(const OpLimits& limits) const;
  absl::Status Reserve(const OpLimits& limits);

  void Run(const AttentionArgs& args);

 private:
  struct Item {
    int32_t sequence;
    int32_t kv_head;  // the first
    int32_t num_heads;
    int32_t token_begin;  // within the sequence
    int32_t num_tokens;
    int32_t position_begin;
    int32_t position_end;
    int64_t first_partial;  // row of partials_ for the segments' results; -1: the item is whole
    int64_t cost;
  };
  // Heads of a sequence whose segments were computed apart.
  struct Merge {
    int32_t sequence;
    int32_t kv_head;
    int32_t num_heads;
    int64_t first_partial;
    int32_t num_segments;
  };

  void ListItems(const AttentionArgs& args);
  // Cuts decoding items that cost more than `target` into several, as far as partials_ reaches.
  void SplitItems(int64_t target);
  void SplitItem(const Item& item, int64_t target);
  // Cuts one into runs of segments, if there is room for their results.
  void SplitSegments(const Item& item, int32_t num_pieces);
  // Appends to ranges_ the ends of ranges that cost about `target`.
  void ListRanges(int64_t target);
  // Stores K and V of tokens [begin, end) of a sequence.
  void StoreKv(const AttentionArgs& args, const AttentionSequence& sequence, int32_t kv_head,
               int32_t num_heads, int32_t begin, int32_t end) const;
  AttentionCall MakeCall(const AttentionArgs& args, const Item& item) const;
  void RunItems(const AttentionArgs& args, int64_t begin, int64_t end) const;
  void RunMerge(const AttentionArgs& args, const Merge& merge) const;
  int64_t MaxPartialRows(const HeadGeometry& heads) const;
  float* PartialRow(int64_t row, const HeadGeometry& heads) const;

  CpuContext* context_;
  const DType kv_dtype_;
  const KvElement element_;
  std::vector<Item> items_;
  std::vector<Item> split_items_;  // scratch of SplitItems()
  std::vector<Merge> merges_;
  std::vector<int64_t> range_ends_;
  int64_t group_size_ = 1;        // of the call
  int64_t max_partial_rows_ = 0;  // of the call
  int64_t num_partial_rows_ = 0;  // in use
  AlignedBuffer partials_;        // [MaxPartialRows()][attention_partial_floats] f32
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_H_
