// CpuKernels: the inner loops of the cpu backend, once per instruction set.
//
// The files that implement them (isa_*.cc) are compiled for machines that may not be this one.
// Everything they include must therefore be plain declarations: an inline function compiled there
// could be the copy that the linker keeps for the whole program. That is also why the kernels take
// pointers and sizes instead of TensorViews.
//
// All kernels compute a row the same way whatever other rows are in the call: one accumulator per
// output element, in ascending order of the reduced index.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_KERNELS_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_KERNELS_H_

#include <stdint.h>

namespace moelight {

// y[i, n] = (accumulate ? y[i, n] : 0) + sum over k of x[row(i), k] * w[n, k] for the rows n of
// `weight` (bf16_tiled) that lie in tiles [tile_begin, tile_end).
struct GemmCall {
  const float* x = nullptr;          // [*, num_cols]
  int64_t x_stride = 0;              // elements
  const int32_t* row_ids = nullptr;  // row(i) = row_ids[i]; null: row(i) = i
  int64_t num_rows = 0;              // at most kGemmMaxRows
  int64_t num_cols = 0;
  const uint16_t* weight = nullptr;
  int64_t weight_rows = 0;
  int64_t tile_begin = 0;
  int64_t tile_end = 0;
  float* y = nullptr;  // column 0 is row 16 * tile_begin of the weight
  int64_t y_stride = 0;
  bool accumulate = false;
  void* scratch = nullptr;  // kGemmScratchBytes, aligned to 64
};

inline constexpr int64_t kGemmMaxRows = 128;
// Columns per pass. Two tiles of weights and twelve rows of bf16 activations fit in 48 KiB of L1:
// 2 * 256 pairs * 64 B + 12 * 1056 B = 44 KiB. Longer passes overflow it, shorter ones read and
// write y more often.
inline constexpr int64_t kGemmPassCols = 512;
// Row stride of packed activations. Constant, so that all rows of a tile are reached from one
// pointer with fixed displacements; not a power of two, so that they fall in different cache sets.
inline constexpr int64_t kPackedStride = kGemmPassCols + 16;
inline constexpr int64_t kGemmScratchBytes = kGemmMaxRows * kPackedStride * int64_t{4};

// Some consecutive query tokens of one sequence against one KV head.
struct AttentionCall {
  const float* q = nullptr;  // first query head of the group, first token
  int64_t q_stride = 0;      // from token to token, elements
  int32_t num_tokens = 0;
  int32_t group_size = 0;      // query heads that share the KV head; their q are consecutive
  int32_t head_dim = 0;        // even, at most kMaxHeadDim
  int32_t first_position = 0;  // of the first token
  int32_t sliding_window = 0;  // 0: none
  float scale = 0;
  const uint16_t* k = nullptr;  // bf16 K of this head in page 0; V lies v_offset behind
  int64_t v_offset = 0;
  int64_t page_stride = 0;  // elements
  int32_t page_tokens = 0;
  const int32_t* block_table = nullptr;
  float* out = nullptr;  // first query head of the group, first token
  int64_t out_stride = 0;
  void* scratch = nullptr;              // attention_scratch_bytes, aligned to 64
  const AttentionCall* next = nullptr;  // if known: what will be computed next, to be prefetched
};

inline constexpr int32_t kMaxHeadDim = 384;
// Query rows (token, head) per call, unless one token alone has more.
inline constexpr int32_t kAttentionRows = 32;
// Keys per step of the online softmax. Steps begin at multiples of it, so the order of additions
// depends on the position alone.
inline constexpr int32_t kAttentionKeys = 64;

struct RopeCall {
  float* heads = nullptr;  // [num_heads, head_dim], consecutive
  int32_t num_heads = 0;
  int32_t head_dim = 0;
  const float* norm = nullptr;  // [head_dim], or null
  float epsilon = 0;
  const float* cos = nullptr;  // [head_dim / 2] of the position
  const float* sin = nullptr;
};

// y[c] += sum over k of gates[k] * rows[slots[k], c]
struct CombineCall {
  const float* rows = nullptr;  // [*, num_cols]
  const int32_t* slots = nullptr;
  const float* gates = nullptr;
  int32_t num_slots = 0;
  int64_t num_cols = 0;
  float* y = nullptr;
};

// ReadStream takes multiples of this.
inline constexpr int64_t kReadBytes = 4 * 64;

struct CpuKernels {
  void (*gemm)(const GemmCall& call);
  void (*attention)(const AttentionCall& call);
  // Scratch for a call of `num_rows` = num_tokens * group_size.
  int64_t (*attention_scratch_bytes)(int64_t num_rows, int64_t head_dim);
  void (*rope)(const RopeCall& call);
  void (*combine)(const CombineCall& call);
  // y = x * weight / rms(x)
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, float* y);
  // h = silu(gate) * up
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* h);
  // out[r, e] = x[r] . weight[e], all fp32
  void (*router_logits)(const float* x, int64_t num_rows, int64_t num_cols, const float* weight,
                        int64_t num_experts, float* out);
  void (*softmax)(float* x, int64_t n);  // in place
  void (*bf16_to_f32)(const uint16_t* x, int64_t n, float* y);
  void (*f32_to_bf16)(const float* x, int64_t n, uint16_t* y);

  // Roofs, for measurements. `rounds` of independent multiply-adds on registers with the widest
  // instruction that the products above use; returns the floating-point operations.
  int64_t (*peak_flops)(int64_t rounds);
  // Reads `bytes`, a multiple of kReadBytes, once, each line prefetched `ahead_bytes` before.
  void (*read_stream)(const void* data, int64_t bytes, int64_t ahead_bytes);
};

extern const CpuKernels kAvx2Kernels;
extern const CpuKernels kAvx512Kernels;
extern const CpuKernels kAvx512Bf16Kernels;

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_KERNELS_H_
