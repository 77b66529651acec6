#include <cstdint>

#include "engine/backend/cuda/grouped_gemm.cuh"

namespace moelight {
namespace {

// h = silu(g) * u of two features of one token, bf16; zero from `num_outputs`.
__device__ __forceinline__ uint32_t SwiGlu(float g0, float u0, float g1, float u1, int feature,
                                           int num_outputs) {
  const float h0 = feature < num_outputs ? g0 / (1.0f + __expf(-g0)) * u0 : 0.0f;
  const float h1 = feature + 1 < num_outputs ? g1 / (1.0f + __expf(-g1)) * u1 : 0.0f;
  return PackBf16(h0, h1);
}

__device__ __forceinline__ void StoreGateUp(const GroupedGemmParams& params, int row_block,
                                            int first_slot, int num_slots, const WarpSums& sums) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int feature = (row_block * kHalfRowTiles + warp / 2) * kTileRows + lane / 4 * 2;
  uint16_t* out = static_cast<uint16_t*>(params.out) + feature;
#pragma unroll
  for (int j = 0; j < WarpSums::kGroups; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = (warp % 2 + 2 * j) * 8 + lane % 4 * 2 + i;
      if (token >= num_slots) continue;
      const float(&gate)[4] = sums.values[0][j];
      const float(&up)[4] = sums.values[1][j];
      *reinterpret_cast<uint32_t*>(out +
                                   static_cast<int64_t>(first_slot + token) * params.out_stride) =
          SwiGlu(gate[i], up[i], gate[i + 2], up[i + 2], feature, params.num_outputs);
    }
  }
}

__device__ __forceinline__ void StoreDown(const GroupedGemmParams& params, int row_block,
                                          int first_slot, int num_slots, const WarpSums& sums) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const int row_tile = row_block * kBlockRowTiles + m * kHalfRowTiles + warp / 2;
    const int feature = row_tile * kTileRows + lane / 4 * 2;
    if (feature >= params.out_stride) continue;
    float* out = static_cast<float*>(params.out) + feature;
#pragma unroll
    for (int j = 0; j < WarpSums::kGroups; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int token = (warp % 2 + 2 * j) * 8 + lane % 4 * 2 + i;
        if (token >= num_slots) continue;
        const float(&sum)[4] = sums.values[m][j];
        *reinterpret_cast<float2*>(out + static_cast<int64_t>(first_slot + token) *
                                             params.out_stride) = make_float2(sum[i], sum[i + 2]);
      }
    }
  }
}

// Blocks go through experts, then row blocks, then tiles of slots: the blocks that share weights
// run at about the same time, and the tokens of an expert stay in L2 meanwhile.
template <GemmKind kKind>
__global__ void __launch_bounds__(kGemmThreads, kBlocksPerSm)
    GroupedGemmKernel(const __grid_constant__ GroupedGemmParams params,
                      const __grid_constant__ GemmShape shape) {
  extern __shared__ __align__(1024) char shared[];
  const SlotTile tile = params.tiles[blockIdx.x / shape.num_row_blocks];
  if (tile.num_tiles == 0) return;
  const int block = blockIdx.x - tile.first_tile * shape.num_row_blocks;
  const int row_block = block / tile.num_tiles;
  // Even shares in whole groups of 8 tokens. They are at most kMoeTileSlots, so that only the last
  // share is smaller and none is empty.
  const int share = ((tile.num_slots + tile.num_tiles - 1) / tile.num_tiles + 7) / 8 * 8;
  const int begin = block % tile.num_tiles * share;
  const int num_slots = min(share, tile.num_slots - begin);
  const int first_slot = tile.first_slot + begin;

  const WeightLoader<kKind> weights(
      shape, kKind == GemmKind::kDown ? tile.down_offset : tile.gate_up_offset, row_block);
  const TokenLoader tokens(params, first_slot, num_slots);
  const int num_steps = params.in_stride / kStepInputs;
  const uint32_t stages = SharedAddress(shared);
  const auto load = [&](int step) {
    const uint32_t stage = stages + step % kNumStages * kStageBytes;
    if (step < num_steps) {
      weights.Load(shape, params.weights, params.num_outputs, step, stage);
      tokens.Load(step, stage);
    }
    // Also without copies, so that the number of pending groups says which stages have arrived.
    CommitCopies();
  };
  for (int step = 0; step < kNumStages - 1; ++step) load(step);

  WarpSums sums;
  const int num_group_pairs = (num_slots + 31) / 32;
  for (int step = 0; step < num_steps; ++step) {
    WaitForCopies<kNumStages - 2>();
    // Everyone's copies of this step have arrived, and the stage of the last step is free.
    __syncthreads();
    load(step + kNumStages - 1);
    const uint32_t stage = stages + step % kNumStages * kStageBytes;
    switch (num_group_pairs) {
      case 1:
        MultiplyStage<1>(stage, sums);
        break;
      case 2:
        MultiplyStage<2>(stage, sums);
        break;
      case 3:
        MultiplyStage<3>(stage, sums);
        break;
      default:
        MultiplyStage<4>(stage, sums);
        break;
    }
  }
  WaitForCopies<0>();

  if (kKind == GemmKind::kDown) {
    StoreDown(params, row_block, first_slot, num_slots, sums);
  } else {
    StoreGateUp(params, row_block, first_slot, num_slots, sums);
  }
}

// What the kernel that was compiled for this device uses.
cudaError_t SharedBytes(int* num_bytes) {
  int device = 0;
  int most = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  *num_bytes = most < kGemmSharedBytes ? kTuringSharedBytes : kGemmSharedBytes;
  return error;
}

template <GemmKind kKind>
cudaError_t Launch(const GroupedGemmParams& params, const GemmShape& shape, cudaStream_t stream) {
  const auto kernel = GroupedGemmKernel<kKind>;
  int shared_bytes = 0;
  cudaError_t error = SharedBytes(&shared_bytes);
  if (error != cudaSuccess) return error;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return error;
  // Two blocks of an SM need nearly all of its memory.
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared);
  if (error != cudaSuccess) return error;
  const unsigned num_blocks = static_cast<unsigned>(params.max_tiles) * shape.num_row_blocks;
  kernel<<<num_blocks, kGemmThreads, shared_bytes, stream>>>(params, shape);
  return cudaGetLastError();
}

GemmShape MakeShape(int num_matrix_rows, int num_inputs) {
  GemmShape shape = {};
  shape.num_pairs = (num_inputs + 1) / 2;
  shape.row_tile_bytes = static_cast<int64_t>(shape.num_pairs) * kLineBytes;
  shape.num_row_tiles = (num_matrix_rows + kTileRows - 1) / kTileRows;
  return shape;
}

}  // namespace

cudaError_t LaunchGroupedGateUp(const GroupedGemmParams& params, cudaStream_t stream) {
  constexpr int kBlockFeatures = kHalfRowTiles * kTileRows;
  GemmShape shape = MakeShape(2 * params.num_outputs, params.num_inputs);
  shape.half_row_tiles = params.num_outputs / kTileRows;
  shape.num_row_blocks = (params.num_outputs + kBlockFeatures - 1) / kBlockFeatures;
  return params.num_outputs % kTileRows == 0
             ? Launch<GemmKind::kGateUp>(params, shape, stream)
             : Launch<GemmKind::kGateUpUnaligned>(params, shape, stream);
}

cudaError_t LaunchGroupedDown(const GroupedGemmParams& params, cudaStream_t stream) {
  constexpr int kBlockFeatures = kBlockRowTiles * kTileRows;
  GemmShape shape = MakeShape(params.num_outputs, params.num_inputs);
  shape.half_row_tiles = kHalfRowTiles;
  shape.num_row_blocks = (params.num_outputs + kBlockFeatures - 1) / kBlockFeatures;
  return Launch<GemmKind::kDown>(params, shape, stream);
}

}  // namespace moelight
