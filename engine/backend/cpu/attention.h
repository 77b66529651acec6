// The Attention op of the cpu backend.
//
// The unit of work is an item: some new tokens of one sequence against one KV head. Items are dealt
// to threads in ranges of about equal numbers of keys, the long ones first. A long prompt is many
// items, a decoding sequence is one per KV head.
//
// Threads: engine thread. Allocates in Reserve() only.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_H_

#include <vector>

#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/ops.h"

namespace moelight {

class CpuAttention {
 public:
  explicit CpuAttention(CpuContext* context) : context_(context) {}

  static int64_t WorkerScratchBytes(const OpLimits& limits, const CpuKernels& kernels);
  void Reserve(const OpLimits& limits);

  void Run(const AttentionArgs& args);

 private:
  struct Item {
    int32_t sequence;
    int32_t kv_head;
    int32_t token_begin;  // within the sequence
    int32_t num_tokens;
    int64_t cost;
  };

  void ListItems(const AttentionArgs& args);
  // Appends to ranges_ the ends of ranges of about equal cost.
  void ListRanges();
  // Stores K and V of tokens [begin, end) of a sequence.
  void StoreKv(const AttentionArgs& args, const AttentionSequence& sequence, int32_t kv_head,
               int32_t begin, int32_t end) const;
  AttentionCall MakeCall(const AttentionArgs& args, const Item& item) const;
  void RunItems(const AttentionArgs& args, int64_t begin, int64_t end) const;

  CpuContext* context_;
  std::vector<Item> items_;
  std::vector<int64_t> range_ends_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_H_
