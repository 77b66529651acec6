// Attention over a paged KV cache, set up alike for any backend.
#ifndef MOELIGHT_TESTS_BACKEND_PAGED_KV_H_
#define MOELIGHT_TESTS_BACKEND_PAGED_KV_H_

#include <vector>

#include "tests/backend/op_harness.h"

namespace moelight {

// A sequence of a batch: positions already cached, and new ones.
struct NewTokens {
  int32_t num_cached = 0;
  int32_t num_new = 0;
};

// Queries, keys and values are functions of (sequence, position), so that the same sequence gets
// the same ones however its tokens are cut into calls. K and V are exact in bf16.
class PagedAttention {
 public:
  PagedAttention(HeadGeometry heads, int32_t page_tokens, int32_t sliding_window)
      : heads_(heads), page_tokens_(page_tokens), sliding_window_(sliding_window) {}

  void set_drop_pages_before_window(bool drop) { drop_pages_before_window_ = drop; }
  void set_query_scale(float scale) { query_scale_ = scale; }
  void set_soft_cap(float soft_cap) { soft_cap_ = soft_cap; }
  void set_sinks(std::vector<float> sinks) { sinks_ = std::move(sinks); }

  // Fills the cached positions through the op itself, one sequence per call, then runs the batch.
  // Returns the rows of the new tokens, [sum of num_new, q_size].
  Matrix Run(TestBackend& backend, const std::vector<NewTokens>& batch) const;
  // Runs positions [0, length) of sequence 0 in calls of the given sizes. Returns [length, q_size].
  Matrix RunInParts(TestBackend& backend, const std::vector<int32_t>& parts) const;

 private:
  struct Cache;
  // Rows for positions [begin, end) of sequence `s`.
  Matrix Qkv(int64_t s, int32_t begin, int32_t end) const;
  Cache MakeCache(const Backend& backend, const std::vector<int32_t>& lengths) const;
  Matrix Call(TestBackend& backend, Cache& cache, Matrix qkv,
              const std::vector<AttentionSequence>& sequences, int32_t sliding_window) const;

  HeadGeometry heads_;
  int32_t page_tokens_;
  int32_t sliding_window_;
  bool drop_pages_before_window_ = false;
  float query_scale_ = 1.0f;
  float soft_cap_ = 0;
  std::vector<float> sinks_;
};

}  // namespace moelight

#endif  // MOELIGHT_TESTS_BACKEND_PAGED_KV_H_
