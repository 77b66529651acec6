#include <cuda_bf16.h>

#include "engine/backend/cuda/attention.h"
#include "engine/backend/cuda/attention_tile.cuh"

namespace moelight {
namespace {

constexpr int kAppendThreads = 256;

// A block stores the keys and values of one token, two elements a thread.
__global__ void __launch_bounds__(kAppendThreads) AppendKvKernel(AttentionParams params) {
  const int64_t token = blockIdx.x;
  const int32_t place = params.token_places[token];
  if (place < 0) return;
  const int32_t page = place / params.page_tokens;
  const int32_t slot = place - page * params.page_tokens;
  const int32_t head_dim = params.head_dim;
  const int32_t kv_size = params.num_key_value_heads * head_dim;
  const int64_t q_size = static_cast<int64_t>(params.num_attention_heads) * head_dim;
  const float* kv = params.qkv + token * (q_size + 2 * kv_size) + q_size;
  __nv_bfloat16* cache = static_cast<__nv_bfloat16*>(params.kv) +
                         static_cast<int64_t>(page) * 2 * kv_size * params.page_tokens;
  // Keys then values of a row are one run of 2 * kv_size, as are the parts of a page.
  for (int32_t i = 2 * threadIdx.x; i < 2 * kv_size; i += 2 * kAppendThreads) {
    const int32_t part_and_head = i / head_dim;
    const int64_t row = static_cast<int64_t>(part_and_head) * params.page_tokens + slot;
    const float2 pair = *reinterpret_cast<const float2*>(kv + i);
    *reinterpret_cast<__nv_bfloat162*>(cache + row * head_dim + (i - part_and_head * head_dim)) =
        __floats2bfloat162_rn(pair.x, pair.y);
  }
}

// What a thread needs to know of one of its two query rows.
struct QueryRow {
  int32_t first_visible;  // position
  int32_t position;       // below first_visible: there is no such row
};

__device__ QueryRow MakeQueryRow(const AttentionParams& params, const AttentionItem& item,
                                 int32_t group_size, int32_t stacked_row) {
  if (stacked_row >= item.num_stacked_rows) return {0, -1};
  const int32_t position = item.num_cached_tokens + stacked_row / group_size;
  const bool windowed = params.sliding_window > 0 && position >= params.sliding_window;
  return {windowed ? position + 1 - params.sliding_window : 0, position};
}

// Running softmax of the two rows of a thread, in the exponent domain of base 2. Sums are of the
// thread's own columns; the four threads of a row add theirs at the end.
struct SoftmaxState {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.0f, 0.0f};
};

// Turns scores into unnormalized weights; scales `state` and `out` to the new maximum.
template <int kKeys, int kMaxHeadDim>
__device__ void UpdateSoftmax(float (&scores)[kKeys / 8][4], SoftmaxState& state,
                              float (&out)[kMaxHeadDim / 8][4], int32_t num_chunks) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float max = state.max[r];
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
      max = fmaxf(max, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
    }
    max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
    max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
    // Before the first visible key all scores are -inf, whose weights must be 0, not NaN.
    const float base = max == -INFINITY ? 0.0f : max;
    const float correction = exp2f(state.max[r] - base);
    state.max[r] = max;
    float sum = state.sum[r] * correction;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
      scores[n][2 * r] = exp2f(scores[n][2 * r] - base);
      scores[n][2 * r + 1] = exp2f(scores[n][2 * r + 1] - base);
      sum += scores[n][2 * r] + scores[n][2 * r + 1];
    }
    state.sum[r] = sum;
#pragma unroll
    for (int n = 0; n < kMaxHeadDim / 8; ++n) {
      if (n / 2 >= num_chunks) break;
      out[n][2 * r] *= correction;
      out[n][2 * r + 1] *= correction;
    }
  }
}

// Scores of the keys of a tile that begins at position `tile_begin`, times scale * log2(e); -inf
// for those that the row does not see.
template <int kKeys>
__device__ void ScaleAndMask(float (&scores)[kKeys / 8][4], float scale_log2, int32_t tile_begin,
                             const QueryRow (&rows)[2]) {
  const int lane_column = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t key = tile_begin + 8 * n + lane_column + i % 2;
      const QueryRow& row = rows[i / 2];
      const bool visible = key >= row.first_visible && key <= row.position;
      scores[n][i] = visible ? scores[n][i] * scale_log2 : -INFINITY;
    }
  }
}

template <int kMaxHeadDim>
__device__ void StoreOut(const AttentionParams& params, const AttentionItem& item,
                         int32_t group_size, int32_t stacked_row, float inverse_sum,
                         const float (&out)[kMaxHeadDim / 8][4], int r) {
  const int32_t token = stacked_row / group_size;
  const int32_t head = blockIdx.y * group_size + (stacked_row - token * group_size);
  float* to = params.out +
              (static_cast<int64_t>(item.first_row + token) * params.num_attention_heads + head) *
                  params.head_dim;
  const int lane_column = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int n = 0; n < kMaxHeadDim / 8; ++n) {
    const int32_t d = 8 * n + lane_column;
    if (d >= params.head_dim) break;
    *reinterpret_cast<float2*>(to + d) =
        make_float2(out[n][2 * r] * inverse_sum, out[n][2 * r + 1] * inverse_sum);
  }
}

// Grid: (items, key heads). A warp takes 16 query rows; a block walks over the tiles of keys that
// any of its rows sees. V of a tile is fetched while its scores are computed, K of the next one
// while the weights are applied.
template <int kMaxHeadDim>
__global__ void __launch_bounds__(kAttentionThreads) AttentionKernel(AttentionParams params) {
  constexpr int kKeys = AttentionTileKeys(kMaxHeadDim);
  extern __shared__ uint4 shared_memory[];
  __shared__ int32_t key_rows[2][kKeys];

  const AttentionItem item = params.items[blockIdx.x];
  const int32_t group_size = params.num_attention_heads / params.num_key_value_heads;
  const TileShape shape(params.head_dim);
  __nv_bfloat16* const q_tile = reinterpret_cast<__nv_bfloat16*>(shared_memory);
  __nv_bfloat16* const k_tile = q_tile + kAttentionBlockRows * shape.stride;
  __nv_bfloat16* const v_tile = k_tile + kKeys * shape.stride;

  // The rows of the block: positions that any of them sees, and the tiles that hold those.
  const int32_t end_row = min(item.first_stacked_row + kAttentionBlockRows, item.num_stacked_rows);
  const QueryRow block_first = MakeQueryRow(params, item, group_size, item.first_stacked_row);
  const QueryRow block_last = MakeQueryRow(params, item, group_size, end_row - 1);
  const KeySource keys(params, item, block_first.first_visible, block_last.position + 1);
  const int32_t first_tile = block_first.first_visible / kKeys;
  const int32_t last_tile = block_last.position / kKeys;

  // The rows of the warp, and the two of this thread.
  const int warp_row = item.first_stacked_row + 16 * (threadIdx.x / 32);
  const bool warp_has_rows = warp_row < end_row;
  const QueryRow warp_first = MakeQueryRow(params, item, group_size, warp_row);
  const QueryRow warp_last =
      MakeQueryRow(params, item, group_size, min(warp_row + 15, end_row - 1));
  const int thread_row = warp_row + (threadIdx.x % 32) / 4;
  const QueryRow rows[2] = {MakeQueryRow(params, item, group_size, thread_row),
                            MakeQueryRow(params, item, group_size, thread_row + 8)};

  if (threadIdx.x < kKeys) {
    key_rows[first_tile % 2][threadIdx.x] = keys.Row(first_tile * kKeys + threadIdx.x);
  }
  LoadQueries(params, item, group_size, shape, q_tile);
  ZeroPadding(shape, k_tile, 2 * kKeys);  // of v_tile, too, which follows
  __syncthreads();
  keys.FetchTile<kKeys>(shape, key_rows[first_tile % 2], 0, k_tile);

  float out[kMaxHeadDim / 8][4] = {};
  SoftmaxState state;
  const float scale_log2 = params.scale * 1.4426950408889634f;  // log2(e): weights are powers of 2
  for (int32_t tile = first_tile; tile <= last_tile; ++tile) {
    const int32_t tile_begin = tile * kKeys;
    const bool warp_sees_tile = warp_has_rows && tile_begin <= warp_last.position &&
                                tile_begin + kKeys > warp_first.first_visible;
    int32_t next_row = -1;
    if (threadIdx.x < kKeys) next_row = keys.Row(tile_begin + kKeys + threadIdx.x);
    WaitForFetches();
    __syncthreads();  // K of this tile is there; nobody reads V of the last one any more
    keys.FetchTile<kKeys>(shape, key_rows[tile % 2], params.num_key_value_heads, v_tile);
    float scores[kKeys / 8][4] = {};
    if (warp_sees_tile) {
      MultiplyQueryKeys<kKeys, kMaxHeadDim>(shape, q_tile, k_tile, scores);
      ScaleAndMask<kKeys>(scores, scale_log2, tile_begin, rows);
      UpdateSoftmax<kKeys, kMaxHeadDim>(scores, state, out, shape.num_chunks);
    }
    if (threadIdx.x < kKeys) key_rows[(tile + 1) % 2][threadIdx.x] = next_row;
    WaitForFetches();
    __syncthreads();  // V of this tile is there; nobody reads K any more
    if (tile < last_tile) keys.FetchTile<kKeys>(shape, key_rows[(tile + 1) % 2], 0, k_tile);
    if (warp_sees_tile) MultiplyWeightsValues<kKeys, kMaxHeadDim>(shape, scores, v_tile, out);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const int stacked_row = thread_row + 8 * r;
    if (stacked_row >= end_row) continue;
    StoreOut<kMaxHeadDim>(params, item, group_size, stacked_row, 1.0f / sum, out, r);
  }
}

template <int kMaxHeadDim>
int SharedBytes(int32_t head_dim) {
  const int num_rows = kAttentionBlockRows + 2 * AttentionTileKeys(kMaxHeadDim);
  return num_rows * TileShape(head_dim).stride * static_cast<int>(sizeof(__nv_bfloat16));
}

template <int kMaxHeadDim>
cudaError_t PrepareOne(int32_t max_head_dim = kMaxHeadDim) {
  return cudaFuncSetAttribute(AttentionKernel<kMaxHeadDim>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              SharedBytes<kMaxHeadDim>(max_head_dim));
}

template <int kMaxHeadDim>
cudaError_t LaunchOne(const AttentionParams& params, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(params.num_items),
                  static_cast<unsigned>(params.num_key_value_heads));
  AttentionKernel<kMaxHeadDim>
      <<<grid, kAttentionThreads, SharedBytes<kMaxHeadDim>(params.head_dim), stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

cudaError_t PrepareAttention(int32_t max_head_dim) {
  if (const cudaError_t error = PrepareOne<64>(); error != cudaSuccess) return error;
  if (const cudaError_t error = PrepareOne<128>(); error != cudaSuccess) return error;
  static_assert(kCudaMaxHeadDim == 256, "the largest kernel takes the largest head");
  return PrepareOne<256>(max_head_dim);
}

cudaError_t LaunchAppendKv(const AttentionParams& params, cudaStream_t stream) {
  if (params.num_tokens == 0) return cudaSuccess;
  AppendKvKernel<<<static_cast<unsigned>(params.num_tokens), kAppendThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t LaunchAttention(const AttentionParams& params, cudaStream_t stream) {
  if (params.num_items == 0) return cudaSuccess;
  if (params.head_dim <= 64) return LaunchOne<64>(params, stream);
  if (params.head_dim <= 128) return LaunchOne<128>(params, stream);
  return LaunchOne<256>(params, stream);
}

}  // namespace moelight
