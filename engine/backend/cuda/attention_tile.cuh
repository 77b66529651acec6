// Parts of the attention kernel: tiles of Q, K and V in shared memory, and the products on them.
//
// A tile has one row per query or key, of head_dim bf16 rounded up to chunks of 16 (the depth of
// one tensor core product) and padded with zeros, which add nothing to a product.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_TILE_CUH_
#define MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_TILE_CUH_

#include <cstdint>

#include <cuda_bf16.h>

#include "engine/backend/cuda/attention.h"
#include "engine/backend/cuda/turing.cuh"

namespace moelight {

constexpr int kAttentionThreads = 128;  // a warp per 16 of the kAttentionBlockRows query rows
static_assert(kAttentionThreads / 32 * 16 == kAttentionBlockRows, "one warp per 16 rows");

// Keys of a tile, a constant of the model so that tiles always begin at the same positions. The
// larger heads take half, for the registers of their wider output.
__host__ __device__ constexpr int AttentionTileKeys(int max_head_dim) {
  return max_head_dim <= 128 ? 64 : 32;
}

struct TileShape {
  int32_t head_dim;
  int32_t num_chunks;  // of 16 elements
  // Elements from row to row: an odd number of 16-byte pieces, so that the eight rows that ldmatrix
  // reads at once lie in different banks.
  int32_t stride;

  __host__ __device__ explicit TileShape(int32_t head_dim)
      : head_dim(head_dim), num_chunks((head_dim + 15) / 16), stride(16 * num_chunks + 8) {}
};

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes (4 bytes) to shared memory, or zeros there if not `valid`. Asynchronous.
__device__ inline void FetchSixteen(void* to, const void* from, bool valid) {
#if MOELIGHT_TURING
  CopySixteen(SharedAddress(to), from, valid);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(SharedAddress(to)),
               "l"(from), "r"(valid ? 16 : 0)
               : "memory");
#endif
}
__device__ inline void FetchFour(void* to, const void* from, bool valid) {
#if MOELIGHT_TURING
  CopyFour(SharedAddress(to), from, valid);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(SharedAddress(to)), "l"(from),
               "r"(valid ? 4 : 0)
               : "memory");
#endif
}

// Blocks until the fetches of this thread have arrived.
__device__ inline void WaitForFetches() {
#if !MOELIGHT_TURING
  asm volatile("cp.async.wait_all;\n" ::: "memory");
#endif
}

// Where the keys and values of one sequence and key head lie.
class KeySource {
 public:
  // Only positions in [begin, end) are read; the others are taken as zeros.
  __device__ KeySource(const AttentionParams& params, const AttentionItem& item, int32_t begin,
                       int32_t end)
      : cache_(static_cast<const __nv_bfloat16*>(params.kv)),
        block_table_(params.block_tables + item.first_page),
        page_tokens_(params.page_tokens),
        page_rows_(2 * params.num_key_value_heads * params.page_tokens),
        head_row_(static_cast<int32_t>(blockIdx.y) * params.page_tokens),
        begin_(begin),
        end_(end),
        by_sixteen_(params.head_dim % 8 == 0 && reinterpret_cast<uintptr_t>(params.kv) % 16 == 0) {}

  // The row of the cache, of head_dim elements, that holds the key of a position; -1: reads as
  // zeros. The cache has fewer than 2^31 rows: as many of 32 elements would fill 128 GiB.
  __device__ int32_t Row(int32_t position) const {
    if (position < begin_ || position >= end_) return -1;
    const int32_t page = position / page_tokens_;
    return block_table_[page] * page_rows_ + head_row_ + (position - page * page_tokens_);
  }

  // Starts to copy the keys of `key_rows` to a tile, or with `head_offset` = number of key heads
  // their values, which lie that many heads further. Asynchronous.
  template <int kKeys>
  __device__ void FetchTile(const TileShape& shape, const int32_t* key_rows, int32_t head_offset,
                            __nv_bfloat16* tile) const {
    const int32_t row_offset = head_offset * page_tokens_;
    const int32_t piece_elements = by_sixteen_ ? 8 : 2;
    const int32_t row_pieces = shape.head_dim / piece_elements;
    for (int32_t i = threadIdx.x; i < kKeys * row_pieces; i += kAttentionThreads) {
      const int32_t key = i / row_pieces;
      const int32_t column = (i - key * row_pieces) * piece_elements;
      const int32_t row = key_rows[key];
      const bool valid = row >= 0;
      // A fetch of zeros reads nothing, yet gets an address within the cache.
      const int64_t from =
          valid ? (static_cast<int64_t>(row) + row_offset) * shape.head_dim + column : 0;
      __nv_bfloat16* const to = tile + key * shape.stride + column;
      if (by_sixteen_) {
        FetchSixteen(to, cache_ + from, valid);
      } else {
        FetchFour(to, cache_ + from, valid);
      }
    }
  }

 private:
  const __nv_bfloat16* const cache_;
  const int32_t* const block_table_;
  const int32_t page_tokens_;
  const int32_t page_rows_;  // cache rows of a page
  const int32_t head_row_;   // first cache row of the key head in a page
  const int32_t begin_;
  const int32_t end_;
  const bool by_sixteen_;
};

// Zeros in the columns from head_dim to the end of the last chunk of `num_rows` rows.
__device__ inline void ZeroPadding(const TileShape& shape, __nv_bfloat16* tile, int32_t num_rows) {
  const int32_t num_padding = 16 * shape.num_chunks - shape.head_dim;
  for (int32_t i = threadIdx.x; i < num_rows * num_padding; i += kAttentionThreads) {
    const int32_t row = i / num_padding;
    tile[row * shape.stride + shape.head_dim + (i - row * num_padding)] = __float2bfloat16_rn(0.0f);
  }
}

// The query rows of the block, rounded to bf16; zeros for rows past the end of the sequence.
__device__ inline void LoadQueries(const AttentionParams& params, const AttentionItem& item,
                                   int32_t group_size, const TileShape& shape,
                                   __nv_bfloat16* tile) {
  const int64_t qkv_size =
      static_cast<int64_t>(params.num_attention_heads + 2 * params.num_key_value_heads) *
      params.head_dim;
  const int32_t row_pairs = 8 * shape.num_chunks;
  for (int32_t i = threadIdx.x; i < kAttentionBlockRows * row_pairs; i += kAttentionThreads) {
    const int32_t row = i / row_pairs;
    const int32_t column = 2 * (i - row * row_pairs);
    const int32_t stacked_row = item.first_stacked_row + row;
    float2 pair = make_float2(0.0f, 0.0f);
    if (stacked_row < item.num_stacked_rows && column < shape.head_dim) {
      const int32_t token = stacked_row / group_size;
      const int32_t head = blockIdx.y * group_size + (stacked_row - token * group_size);
      pair = *reinterpret_cast<const float2*>(
          params.qkv + static_cast<int64_t>(item.first_row + token) * qkv_size +
          static_cast<int64_t>(head) * params.head_dim + column);
    }
    *reinterpret_cast<__nv_bfloat162*>(tile + row * shape.stride + column) =
        __floats2bfloat162_rn(pair.x, pair.y);
  }
}

// Four 8x8 matrices of bf16, one row address from each lane: lanes 8i to 8i+7 give matrix i. Lane l
// gets elements (l/4, 2*(l%4)) and the next of each matrix; transposed: (2*(l%4), l/4) and the one
// below.
__device__ inline void LoadMatrices(uint32_t (&matrices)[4], const __nv_bfloat16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(SharedAddress(row))
               : "memory");
}
__device__ inline void LoadMatricesTransposed(uint32_t (&matrices)[4], const __nv_bfloat16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// sum += a * b for a [16, 16], b [16, 8]. `sum` of lane l: row l/4, columns 2*(l%4) and the next,
// then the same of row l/4 + 8.
__device__ inline void MultiplyAdd(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                                   uint32_t b1) {
#if MOELIGHT_TURING
  MultiplyAddByShuffles(sum, a[0], a[1], a[2], a[3], b0, b1);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// scores += Q K^T for the 16 query rows of this warp: score tile n holds keys 8n to 8n+7.
template <int kKeys, int kMaxHeadDim>
__device__ void MultiplyQueryKeys(const TileShape& shape, const __nv_bfloat16* q_tile,
                                  const __nv_bfloat16* k_tile, float (&scores)[kKeys / 8][4]) {
  const int lane = threadIdx.x % 32;
  const int matrix = lane / 8;
  // Matrices of Q: rows 0-7 and 8-15 of the left columns, then of the right ones. Of K: the left
  // and the right columns of keys 0-7, then of keys 8-15.
  const __nv_bfloat16* const q_row =
      q_tile + (16 * (threadIdx.x / 32) + 8 * (matrix % 2) + lane % 8) * shape.stride +
      8 * (matrix / 2);
  const __nv_bfloat16* const k_row =
      k_tile + (8 * (matrix / 2) + lane % 8) * shape.stride + 8 * (matrix % 2);
#pragma unroll
  for (int chunk = 0; chunk < kMaxHeadDim / 16; ++chunk) {
    if (chunk >= shape.num_chunks) break;
    uint32_t q[4];
    LoadMatrices(q, q_row + 16 * chunk);
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      uint32_t k[4];
      LoadMatrices(k, k_row + 16 * n * shape.stride + 16 * chunk);
      MultiplyAdd(scores[2 * n], q, k[0], k[1]);
      MultiplyAdd(scores[2 * n + 1], q, k[2], k[3]);
    }
  }
}

__device__ inline uint32_t PackWeights(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// out += P V: output tile n holds elements 8n to 8n+7 of the head. The scores of two tiles of keys
// are already laid out as the left operand of one product.
template <int kKeys, int kMaxHeadDim>
__device__ void MultiplyWeightsValues(const TileShape& shape, const float (&weights)[kKeys / 8][4],
                                      const __nv_bfloat16* v_tile,
                                      float (&out)[kMaxHeadDim / 8][4]) {
  const int lane = threadIdx.x % 32;
  const int matrix = lane / 8;
  // Matrices of V: keys 0-7 and 8-15 of the left columns, then of the right ones.
  const __nv_bfloat16* const v_row =
      v_tile + (8 * (matrix % 2) + lane % 8) * shape.stride + 8 * (matrix / 2);
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    const uint32_t p[4] = {PackWeights(weights[2 * k][0], weights[2 * k][1]),
                           PackWeights(weights[2 * k][2], weights[2 * k][3]),
                           PackWeights(weights[2 * k + 1][0], weights[2 * k + 1][1]),
                           PackWeights(weights[2 * k + 1][2], weights[2 * k + 1][3])};
#pragma unroll
    for (int n = 0; n < kMaxHeadDim / 16; ++n) {
      if (n >= shape.num_chunks) break;
      uint32_t v[4];
      LoadMatricesTransposed(v, v_row + 16 * k * shape.stride + 16 * n);
      MultiplyAdd(out[2 * n], p, v[0], v[1]);
      MultiplyAdd(out[2 * n + 1], p, v[2], v[3]);
    }
  }
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_ATTENTION_TILE_CUH_
