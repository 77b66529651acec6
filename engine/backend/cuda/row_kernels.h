// Kernels on rows and elements: lookup, norm, rotary embedding, rounding, SwiGLU, page copies.
//
// Plain structs and launch functions, for files compiled by either compiler. All pointers are
// readable by the device. A launch only enqueues work; it returns the error of the launch. Empty
// inputs launch nothing. One row's result depends on that row alone.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_ROW_KERNELS_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_ROW_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace moelight {

// y[i] = x[rows[i]], widened to f32.
struct GatherParams {
  const void* x = nullptr;  // [any, row_size] f32, or bf16 with `x_is_bf16`
  bool x_is_bf16 = false;
  const int32_t* rows = nullptr;  // [num_rows]
  float* y = nullptr;             // [num_rows, row_size]
  int64_t num_rows = 0;
  int64_t row_size = 0;
};
cudaError_t LaunchGather(const GatherParams& params, cudaStream_t stream);

// y[t] = x[t] / sqrt(mean(x[t]^2) + epsilon) * weight
struct RmsNormParams {
  const float* x = nullptr;       // [num_rows, row_size]
  const float* weight = nullptr;  // [row_size]
  float epsilon = 0;
  float* y = nullptr;  // [num_rows, row_size]; may be x
  int64_t num_rows = 0;
  int64_t row_size = 0;
};
cudaError_t LaunchRmsNorm(const RmsNormParams& params, cudaStream_t stream);

// Norm of every query and key head, then rotary embedding, in place.
struct QkNormRopeParams {
  float* qkv = nullptr;  // [num_tokens, qkv_size]
  int64_t num_tokens = 0;
  int64_t qkv_size = 0;
  int32_t num_query_heads = 0;
  int32_t num_key_heads = 0;
  int32_t head_dim = 0;                // even
  const int32_t* positions = nullptr;  // [num_tokens]
  const float* q_norm = nullptr;       // [head_dim], or null: no norm
  const float* k_norm = nullptr;       // [head_dim], or null: no norm
  float epsilon = 0;
  const float* inv_freq = nullptr;  // [head_dim / 2]
};
cudaError_t LaunchQkNormRope(const QkNormRopeParams& params, cudaStream_t stream);

// y[i] = bf16(x[i])
cudaError_t LaunchRoundToBf16(const float* x, void* y, int64_t num_elements, cudaStream_t stream);

// h[t, i] = bf16(silu(g[t, i]) * u[t, i]) with gate_up[t] = [g[t]; u[t]].
struct SwiGluParams {
  const float* gate_up = nullptr;  // [num_tokens, 2 * intermediate_size]
  void* h = nullptr;               // [num_tokens, intermediate_size] bf16
  int64_t num_tokens = 0;
  int64_t intermediate_size = 0;
};
cudaError_t LaunchSwiGlu(const SwiGluParams& params, cudaStream_t stream);

// Page dst_page of `dst` = page src_page of `src` for every pair; sides may lie in pinned host
// memory.
struct CopyPagesParams {
  const char* src = nullptr;
  char* dst = nullptr;
  int64_t page_bytes = 0;          // a multiple of 4
  const int32_t* pages = nullptr;  // [num_pages][2]: src_page, dst_page
  int64_t num_pages = 0;
};
cudaError_t LaunchCopyPages(const CopyPagesParams& params, cudaStream_t stream);

// Copies `bytes`, a multiple of 16, between addresses aligned to 16: for small pieces of pinned
// host memory, which would wait behind large transfers on a copy engine.
cudaError_t LaunchCopySmall(const void* src, void* dst, int64_t bytes, cudaStream_t stream);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_ROW_KERNELS_H_
