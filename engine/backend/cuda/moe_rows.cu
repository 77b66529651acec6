// What the experts need around their matrix products: bf16 rows, the list of tiles, the sum over k.
#include <cstdint>

#include "engine/backend/cuda/moe_kernels.h"
#include "engine/backend/cuda/moe_ptx.cuh"

namespace moelight {
namespace {

constexpr int kRowThreads = 256;

// Whether rows of `num_cols` floats can be read four at a time.
bool IsVectorizable(const void* data, int64_t num_cols) {
  return num_cols % 4 == 0 && reinterpret_cast<uintptr_t>(data) % sizeof(float4) == 0;
}

// Elements [col, col + 4) of a row of `num_cols`, zeros behind it.
template <bool kVectors>
__device__ __forceinline__ float4 LoadFour(const float* row, int col, int num_cols) {
  if (kVectors) {
    return col < num_cols ? *reinterpret_cast<const float4*>(row + col) : float4{0, 0, 0, 0};
  }
  return {col < num_cols ? row[col] : 0.0f, col + 1 < num_cols ? row[col + 1] : 0.0f,
          col + 2 < num_cols ? row[col + 2] : 0.0f, col + 3 < num_cols ? row[col + 3] : 0.0f};
}

// A thread makes 8 elements.
template <bool kVectors>
__global__ void RowsToBf16Kernel(RowsToBf16Params params) {
  const int64_t piece = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  const int pieces_per_row = params.out_stride / 8;
  const int64_t row = piece / pieces_per_row;
  if (row >= params.num_rows) return;
  const int col = static_cast<int>(piece - row * pieces_per_row) * 8;
  const float* x = params.x + row * params.num_cols;
  const float4 a = LoadFour<kVectors>(x, col, params.num_cols);
  const float4 b = LoadFour<kVectors>(x, col + 4, params.num_cols);
  static_cast<uint4*>(params.out)[piece] = {PackBf16(a.x, a.y), PackBf16(a.z, a.w),
                                            PackBf16(b.x, b.y), PackBf16(b.z, b.w)};
}

// A thread per expert, then a thread per tile. One block.
__global__ void __launch_bounds__(kMaxRouterExperts)
    PlanTilesKernel(const __grid_constant__ PlanTilesParams params) {
  __shared__ int ends[kMaxRouterExperts];  // of the experts' tiles
  const int expert = threadIdx.x;
  int num_slots = 0;
  if (expert < params.num_experts) {
    num_slots = params.expert_offsets[expert + 1] - params.expert_offsets[expert];
  }
  ends[expert] = (num_slots + kMoeTileSlots - 1) / kMoeTileSlots;
  for (int distance = 1; distance < kMaxRouterExperts; distance *= 2) {
    __syncthreads();
    const int before = expert >= distance ? ends[expert - distance] : 0;
    __syncthreads();
    ends[expert] += before;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < params.max_tiles; i += kMaxRouterExperts) {
    SlotTile tile = {};
    if (i < ends[kMaxRouterExperts - 1]) {
      // The first expert that ends behind tile i.
      int e = 0;
      for (int half = kMaxRouterExperts / 2; half > 0; half /= 2) {
        if (ends[e + half - 1] <= i) e += half;
      }
      const int entry = params.has_stride ? 0 : e;
      const int64_t moved = params.has_stride ? e * params.expert_stride : 0;
      tile.gate_up_offset = params.gate_up_offsets[entry] + moved;
      tile.down_offset = params.down_offsets[entry] + moved;
      tile.first_slot = params.expert_offsets[e];
      tile.num_slots = params.expert_offsets[e + 1] - tile.first_slot;
      tile.first_tile = e == 0 ? 0 : ends[e - 1];
      tile.num_tiles = ends[e] - tile.first_tile;
    }
    params.tiles[i] = tile;
  }
}

// A thread takes 4 features of one token.
template <bool kVectors>
__global__ void CombineKernel(CombineParams params) {
  const int col = (blockIdx.y * kRowThreads + threadIdx.x) * 4;
  if (col >= params.hidden_size) return;
  const int64_t token = blockIdx.x;
  float* y = params.y + token * params.hidden_size;
  float4 sum = LoadFour<kVectors>(y, col, params.hidden_size);
  for (int k = 0; k < params.num_experts_per_tok; ++k) {
    const int64_t choice = token * params.num_experts_per_tok + k;
    const int64_t slot = params.token_slots[choice];
    const float gate = params.gates[choice];
    const float4 out =
        *reinterpret_cast<const float4*>(params.out + slot * params.out_stride + col);
    sum.x = fmaf(gate, out.x, sum.x);
    sum.y = fmaf(gate, out.y, sum.y);
    sum.z = fmaf(gate, out.z, sum.z);
    sum.w = fmaf(gate, out.w, sum.w);
  }
  if (kVectors) {
    *reinterpret_cast<float4*>(y + col) = sum;
    return;
  }
  y[col] = sum.x;
  if (col + 1 < params.hidden_size) y[col + 1] = sum.y;
  if (col + 2 < params.hidden_size) y[col + 2] = sum.z;
  if (col + 3 < params.hidden_size) y[col + 3] = sum.w;
}

}  // namespace

cudaError_t LaunchRowsToBf16(const RowsToBf16Params& params, cudaStream_t stream) {
  const int64_t num_pieces = int64_t{params.num_rows} * (params.out_stride / 8);
  const unsigned num_blocks = static_cast<unsigned>((num_pieces + kRowThreads - 1) / kRowThreads);
  if (IsVectorizable(params.x, params.num_cols)) {
    RowsToBf16Kernel<true><<<num_blocks, kRowThreads, 0, stream>>>(params);
  } else {
    RowsToBf16Kernel<false><<<num_blocks, kRowThreads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

cudaError_t LaunchPlanTiles(const PlanTilesParams& params, cudaStream_t stream) {
  PlanTilesKernel<<<1, kMaxRouterExperts, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t LaunchCombine(const CombineParams& params, cudaStream_t stream) {
  constexpr int kBlockCols = 4 * kRowThreads;
  const dim3 grid(params.num_tokens, (params.hidden_size + kBlockCols - 1) / kBlockCols);
  if (IsVectorizable(params.y, params.hidden_size)) {
    CombineKernel<true><<<grid, kRowThreads, 0, stream>>>(params);
  } else {
    CombineKernel<false><<<grid, kRowThreads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

}  // namespace moelight
