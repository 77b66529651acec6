// CpuKernels: the inner loops of the cpu backend, once per instruction set.
//
// The files that implement them (isa_*.cc) are compiled for machines that may not be this one.
// Everything they include must therefore be plain declarations: an inline function compiled there
// could be the copy that the linker keeps for the whole program. That is also why the kernels take
// pointers and sizes instead of TensorViews.
//
// All kernels compute a row the same way whatever other rows are in the call: one accumulator per
// output element, in ascending order of the reduced index (on AMX, of blocks of 32).
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_KERNELS_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_KERNELS_H_

#include <stdint.h>

namespace moelight {

// Activations are packed once per op, in panels of rows that share weights:
//
//   [ceil(num_cols / 32)][num_rows][32 columns]
//
// of `act_bytes` each, padded with zeros to 32 columns. 16 rows of a block are then the operand of
// an AMX product in one piece, and the rows of a register tile lie at fixed displacements.
inline constexpr int64_t kPackCols = 32;
constexpr int64_t PackedCols(int64_t num_cols) {
  return (num_cols + kPackCols - 1) / kPackCols * kPackCols;
}
// AMX reads whole tiles of 16 rows: what lies behind the last row of a panel may be read, and is
// not used. A buffer of panels ends with so many bytes more: 15 rows of 32 fp32 or bf16 columns.
inline constexpr int64_t kPackedSlackBytes = 15 * kPackCols * int64_t{4};

// Packs rows [row_begin, row_begin + num_rows) of a panel.
struct PackCall {
  const float* x = nullptr;          // [*, num_cols]
  int64_t x_stride = 0;              // elements
  const int32_t* row_ids = nullptr;  // row i of the panel is row row_ids[i] of x; null: row i
  int64_t row_begin = 0;
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  void* panel = nullptr;
  int64_t panel_rows = 0;
};

// y[i, n] = (accumulate ? y[i, n] : 0) + sum over k of a[i, k] * w[n, k] for the rows n of `weight`
// (bf16_tiled) that lie in tiles [tile_begin, tile_end).
struct GemmCall {
  const void* a = nullptr;  // first row, in a packed panel of panel_rows
  int64_t panel_rows = 0;
  int64_t num_rows = 0;  // at most kGemmMaxRows
  int64_t num_cols = 0;
  // The columns that this call sums. Those before have been, by calls with the same `sums`; both
  // are multiples of kGemmPassCols, but for the end.
  int64_t col_begin = 0;
  int64_t col_end = 0;
  const uint16_t* weight = nullptr;
  int64_t weight_rows = 0;
  int64_t tile_begin = 0;
  int64_t tile_end = 0;
  // [num_tiles][GemmSumRows(num_rows)][16]: sums between the passes over the columns, aligned
  // to 64.
  float* sums = nullptr;
  float* y = nullptr;  // column 0 is row 16 * tile_begin of the weight; null: y stays in `sums`
  int64_t y_stride = 0;
  bool accumulate = false;  // needs y
};

// Columns per pass where rows need several register tiles. Two tiles of weights and twelve rows of
// bf16 activations fit in 48 KiB of L1: 2 * 256 pairs * 64 B + 12 rows * 1 KiB = 44 KiB. Longer
// passes overflow it, shorter ones read and write the sums more often. (AMX
// takes half of it, amx_gemm-inl.h says why.)
inline constexpr int64_t kGemmPassCols = 512;
// Rows of a call, which reads its weights from memory once. Beyond that they are read again, which
// then takes a fraction of the time: 512 rows are 512 operations per byte of weight, so that even
// 20 TFLOP/s ask for only 40 GB/s.
inline constexpr int64_t kGemmMaxRows = 512;
constexpr int64_t GemmSumRows(int64_t num_rows) { return (num_rows + 15) / 16 * 16; }
constexpr int64_t GemmSumBytes(int64_t num_rows, int64_t num_tiles) {
  return GemmSumRows(num_rows) * num_tiles * 16 * static_cast<int64_t>(sizeof(float));
}

// h = silu(gate) * up for gate and up as GemmCall::sums of the same rows, written to columns
// [col_begin, col_begin + num_cols) of a packed panel, with zeros behind them up to padded_cols.
struct SwigluCall {
  const float* gate = nullptr;
  const float* up = nullptr;
  int64_t up_offset = 0;  // column of tile 0 of `up` where it begins, below 16
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  int64_t padded_cols = 0;  // a multiple of 16
  int64_t col_begin = 0;    // a multiple of 16
  void* panel = nullptr;    // at the first row
  int64_t panel_rows = 0;
};

// How K and V lie in the cache; DType of those formats, which this header may not include.
enum class KvElement : uint8_t { kBf16, kF16, kI8 };

// One position of one head to its place in the cache.
struct StoreKvCall {
  const float* x = nullptr;  // [head_dim]
  int32_t head_dim = 0;
  KvElement element = KvElement::kBf16;
  void* row = nullptr;
  float* scale = nullptr;  // kI8 only
};

// Some consecutive query tokens of one sequence against some consecutive KV heads, over a range of
// positions. Ranges begin and end at multiples of kSegmentKeys, but for the ends of the sequence.
// With several heads there is one token: the heads take turns at every step of keys, because their
// keys lie side by side in a page.
struct AttentionCall {
  const float* q = nullptr;  // first query head of the first group, first token
  int64_t q_stride = 0;      // from token to token, elements
  int32_t num_tokens = 0;
  int32_t num_heads = 1;       // KV heads
  int32_t group_size = 0;      // query heads that share a KV head; their q are consecutive
  int32_t head_dim = 0;        // even, at most kMaxHeadDim; for kI8 a multiple of 4
  int32_t first_position = 0;  // of the first token
  int32_t position_begin = 0;
  int32_t position_end = 0;    // at most first_position + num_tokens
  int32_t sliding_window = 0;  // 0: none
  float scale = 0;
  float soft_cap = 0;            // 0: none
  const float* sinks = nullptr;  // [num_heads * group_size], or null
  KvElement element = KvElement::kBf16;
  const char* k = nullptr;  // block of K of the first head in page 0; V's lies v_offset behind
  int64_t head_stride = 0;  // bytes, as all below
  int64_t v_offset = 0;
  int64_t scale_offset = 0;  // of a block's scales, kI8 only
  int64_t page_stride = 0;
  int32_t page_tokens = 0;
  const int32_t* block_table = nullptr;
  float* out = nullptr;  // first query head of the first group, first token
  int64_t out_stride = 0;
  // If not null, the range's segments are written here one by one, [segments][rows][stride] with
  // stride attention_partial_floats(head_dim), and nothing to `out`. Only for one token.
  float* partials = nullptr;
  void* scratch = nullptr;              // attention_scratch_bytes, aligned to 64
  const AttentionCall* next = nullptr;  // if known: what will be computed next, to be prefetched
  bool is_prefetched = false;           // the call before this one had it as `next`
};

// Adds up the partial results of all segments of rows into `out` of the call.
struct AttentionMergeCall {
  KvElement element = KvElement::kBf16;
  const float* partials = nullptr;  // [num_segments][num_rows][stride], as AttentionCall's
  int32_t num_segments = 0;
  int32_t num_rows = 0;  // query heads
  int32_t head_dim = 0;
  const float* sinks = nullptr;  // [num_rows], or null
  float* out = nullptr;          // [num_rows, head_dim]
  void* scratch = nullptr;       // attention_scratch_bytes, aligned to 64
};

inline constexpr int32_t kMaxHeadDim = 384;
// Query rows (token, head) per call, unless one token alone has more.
inline constexpr int32_t kAttentionRows = 32;
// Keys per step of the online softmax. Steps begin at multiples of it, so the order of additions
// depends on the position alone.
inline constexpr int32_t kAttentionKeys = 64;
// Keys after which a softmax starts anew, its result to be merged with the others in ascending
// order. That makes a long sequence work for many threads without a bit of difference: 1024 keys of
// 512 bytes are about 100 us of one core's share of the memory, a merge is far below one.
inline constexpr int32_t kSegmentKeys = 1024;

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
  int64_t act_bytes;  // of a packed activation
  void (*pack)(const PackCall& call);
  void (*gemm)(const GemmCall& call);
  void (*attention)(const AttentionCall& call);
  // Scratch for a call of num_heads heads with `num_rows` = num_tokens * group_size each.
  int64_t (*attention_scratch_bytes)(int64_t num_heads, int64_t num_rows, int64_t head_dim);
  int64_t (*attention_partial_floats)(int64_t head_dim);
  void (*attention_merge)(const AttentionMergeCall& call);
  void (*store_kv)(const StoreKvCall& call);
  void (*rope)(const RopeCall& call);
  void (*combine)(const CombineCall& call);
  // y = x * weight / rms(x)
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, float* y);
  void (*swiglu)(const SwigluCall& call);
  // out[r, e] = x[r] . weight[e], all fp32
  void (*router_logits)(const float* x, int64_t num_rows, int64_t num_cols, const float* weight,
                        int64_t num_experts, float* out);
  void (*softmax)(float* x, int64_t n);  // in place
  void (*bf16_to_f32)(const uint16_t* x, int64_t n, float* y);

  // Roofs, for measurements. `rounds` of independent multiply-adds on registers with the widest
  // instruction that the products above use; returns the floating-point operations.
  int64_t (*peak_flops)(int64_t rounds);
  // Reads `bytes`, a multiple of kReadBytes, once, each line prefetched `ahead_bytes` before.
  void (*read_stream)(const void* data, int64_t bytes, int64_t ahead_bytes);
};

extern const CpuKernels kAvx2Kernels;
extern const CpuKernels kAvx512Kernels;
extern const CpuKernels kAvx512Bf16Kernels;
extern const CpuKernels kAmxBf16Kernels;

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_KERNELS_H_
