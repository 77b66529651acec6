// AttentionPlan: the work list of the attention kernels for one call, laid out in one piece of
// memory that is brought to the device.
//
// Threads: the one that issues ops. Allocates: in Reserve(). CHECKs page ids of the new tokens.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_PLAN_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_PLAN_H_

#include <cstdint>
#include <vector>

#include "engine/backend/cuda/attention.h"
#include "engine/backend/ops.h"

namespace moelight {

class AttentionPlan {
 public:
  // Bytes of plans of these many tokens, sequences and entries of block tables in sum.
  static int64_t Bytes(const HeadGeometry& heads, int64_t num_tokens, int64_t num_sequences,
                       int64_t num_pages);

  void Reserve(const OpLimits& limits);

  // Makes the plan of `args`; it stays until the next call. Equal plans are equal bytes.
  void Build(const AttentionArgs& args);

  const char* data() const { return reinterpret_cast<const char*>(words_.data()); }
  int64_t bytes() const { return static_cast<int64_t>(words_.size() * sizeof(int32_t)); }
  // Whether the call has anything to do.
  bool empty() const { return num_items_ == 0; }
  // `args` and the plan, which lies at `plan` in device memory, as the kernels take them.
  AttentionParams Params(const AttentionArgs& args, const void* plan) const;

 private:
  void AppendItems(const AttentionSequence& sequence, int32_t group_size, int32_t first_page);

  // [items][block tables][token places]
  std::vector<int32_t> words_;
  int32_t num_items_ = 0;
  int64_t first_table_word_ = 0;
  int64_t first_place_word_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_PLAN_H_
