// Kernels of attention over the paged KV cache.
//
// Two launches: LaunchAppendKv stores the new keys and values, LaunchAttention then attends. The
// scores of a block of query rows are kept in registers (online softmax), so there is no matrix of
// all scores. Products run on the tensor cores with q, k, p and v in bf16; scores, sums and the
// softmax are f32. Keys are taken in tiles that begin at fixed positions and in ascending order, so
// the bits of a row do not depend on the other rows or on how a prompt is cut into calls.
//
// Plain structs and launch functions, for files compiled by either compiler. All pointers are
// readable by the device. A launch only enqueues work; it returns the error of the launch.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace moelight {

inline constexpr int32_t kCudaMaxHeadDim = 256;
// The tiles of larger ones do not fit Turing's 64 KiB of shared memory.
inline constexpr int32_t kTuringMaxHeadDim = 240;

// Query rows of one block. The query heads that share a key head are stacked: stacked row r of a
// sequence is query head r % group_size of its new token r / group_size.
inline constexpr int32_t kAttentionBlockRows = 64;

// A block of query rows of one sequence; the kernel runs it once per key head.
struct AttentionItem {
  int32_t first_stacked_row = 0;  // a multiple of kAttentionBlockRows
  int32_t num_stacked_rows = 0;   // of the whole sequence: num_tokens * group_size
  int32_t first_row = 0;          // of the sequence's tokens in qkv and out
  int32_t num_cached_tokens = 0;
  int32_t first_page = 0;  // of the sequence's pages in block_tables
};

struct AttentionParams {
  const float* qkv = nullptr;  // [num_tokens, qkv_size]
  float* out = nullptr;        // [num_tokens, num_attention_heads * head_dim]
  void* kv = nullptr;          // bf16 [pages][2][num_key_value_heads][page_tokens][head_dim]
  const AttentionItem* items = nullptr;   // [num_items]
  const int32_t* block_tables = nullptr;  // page ids, of one sequence after the other
  // Page id * page_tokens + place in the page of each new token; -1: belongs to no sequence.
  const int32_t* token_places = nullptr;  // [num_tokens]
  int32_t num_items = 0;
  int64_t num_tokens = 0;
  int32_t num_attention_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t head_dim = 0;  // even, at most kCudaMaxHeadDim
  int32_t page_tokens = 0;
  int32_t sliding_window = 0;  // 0: none
  float scale = 0;
};

// Once per process and device, before the first LaunchAttention: allows the shared memory that
// heads up to `max_head_dim` need.
cudaError_t PrepareAttention(int32_t max_head_dim);
cudaError_t LaunchAppendKv(const AttentionParams& params, cudaStream_t stream);
cudaError_t LaunchAttention(const AttentionParams& params, cudaStream_t stream);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_H_
