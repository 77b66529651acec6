// The inner part of a matrix product over experts: stages of weights and tokens on their way
// through shared memory, and the products of one stage.
//
// A block makes 128 output rows ("A") for up to kMoeTileSlots tokens ("B") in steps of 64 inputs:
//
//   weights  [8 row tiles][32 column pairs][16 rows][2 columns] bf16 = 16 KiB, as in "bf16_tiled"
//   tokens   [128 tokens][64 inputs] bf16 = 16 KiB
//
// Warp w of 8 takes row tiles w / 2 and w / 2 + 4 and every second group of 8 tokens from group
// w % 2, so that a tile with few tokens still gives work to all warps.
//
// Row g of a 16x16 operand is row 2g of its row tile and row g + 8 is row 2g + 1: then the two
// words that a lane needs lie side by side, and so do the two results that it gets for one token.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_GROUPED_GEMM_CUH_
#define MOELIGHT_ENGINE_BACKEND_CUDA_GROUPED_GEMM_CUH_

#include <cstdint>

#include "engine/backend/cuda/moe_kernels.h"
#include "engine/backend/cuda/moe_ptx.cuh"

namespace moelight {

constexpr int kGemmThreads = 256;
constexpr int kStepInputs = kMoeRowElements;
constexpr int kTileRows = 16;                                // of "bf16_tiled"
constexpr int kLineBytes = kTileRows * 4;                    // one column pair of 16 rows
constexpr int kRowTileBytes = kStepInputs / 2 * kLineBytes;  // of one step: 2 KiB
constexpr int kBlockRowTiles = 8;
constexpr int kHalfRowTiles = kBlockRowTiles / 2;
constexpr int kWeightStageBytes = kBlockRowTiles * kRowTileBytes;  // 16 KiB
constexpr int kTokenBytes = kStepInputs * 2;                       // of one step: 128
constexpr int kTokenStageBytes = kMoeTileSlots * kTokenBytes;      // 16 KiB
constexpr int kStageBytes = kWeightStageBytes + kTokenStageBytes;
// Three stages are 96 KiB: the most that fits the 99 KiB of a consumer card, and two blocks in the
// 227 KiB of a data-center card. Turing has 64 KiB. For the kernel; what a launch asks for depends
// on the device that it runs on.
constexpr int kNumStages = MOELIGHT_TURING ? 2 : 3;
constexpr int kBlocksPerSm = MOELIGHT_TURING ? 1 : 2;
constexpr int kTuringSharedBytes = 2 * kStageBytes;
constexpr int kGemmSharedBytes = 3 * kStageBytes;
// 16-byte pieces of one operand that a thread copies in one step.
constexpr int kCopiesPerThread = kWeightStageBytes / 16 / kGemmThreads;
static_assert(kWeightStageBytes == kTokenStageBytes);
static_assert(kCopiesPerThread * kGemmThreads * 16 == kWeightStageBytes);

enum class GemmKind {
  kGateUp,           // row tiles 0-3 are gate rows, 4-7 the up rows of the same features
  kGateUpUnaligned,  // the same where up rows do not begin with a row tile
  kDown,             // 8 consecutive row tiles
};

// What the host derives from the shapes of a GroupedGemmParams.
struct GemmShape {
  int64_t row_tile_bytes;  // of the matrix: one row tile of all column pairs
  int32_t num_pairs;       // of columns
  int32_t num_row_tiles;   // of the matrix
  int32_t half_row_tiles;  // from the block's row tile 0 to its row tile 4, in row tiles
  int32_t num_row_blocks;
};

__device__ __forceinline__ const void* WeightAddress(const WeightMap& map, int64_t offset) {
  const int64_t base = offset < map.ring_begin   ? map.resident
                       : offset < map.wrap_begin ? map.ring
                                                 : map.wrapped_ring;
  return reinterpret_cast<const void*>(base + offset);
}

// Lines with bit 1 of their number set have their halves swapped in shared memory. The lanes of
// half a warp read 32 bytes of each of 4 lines, which then lie in 32 different banks.
__device__ __forceinline__ uint32_t SwapHalves(uint32_t offset_in_line, uint32_t line) {
  return offset_in_line ^ ((line & 2) << 4);
}

// This thread's share of the weights: in each step piece `threadIdx.x % 128` of row tiles
// threadIdx.x / 128 + {0, 2, 4, 6}.
template <GemmKind kKind>
class WeightLoader {
 public:
  __device__ WeightLoader(const GemmShape& shape, int64_t matrix_offset, int row_block)
      : matrix_offset_(matrix_offset) {
    constexpr int kPieces = kRowTileBytes / 16;
    const int piece = threadIdx.x % kPieces;
    const int row_tile = threadIdx.x / kPieces;
    first_tile_ = row_block * (kKind == GemmKind::kDown ? kBlockRowTiles : kHalfRowTiles);
    line_ = piece / 4;
    to_ = row_tile * kRowTileBytes + line_ * kLineBytes + SwapHalves(piece % 4 * 16, line_);
    offset_ = matrix_offset + (first_tile_ + row_tile) * shape.row_tile_bytes + piece * 16;
    is_inside_ = 0;
    for (int i = 0; i < kCopiesPerThread; ++i) {
      const int tile = first_tile_ + row_tile + TilesAway(shape, i);
      if (tile < shape.num_row_tiles) is_inside_ |= 1u << i;
    }
  }

  __device__ void Load(const GemmShape& shape, const WeightMap& map, int num_outputs, int step,
                       uint32_t stage) const {
    constexpr bool kUnaligned = kKind == GemmKind::kGateUpUnaligned;
    const int num_bytes = step * (kStepInputs / 2) + line_ < shape.num_pairs ? 16 : 0;
    const int64_t offset = offset_ + static_cast<int64_t>(step) * kRowTileBytes;
#pragma unroll
    for (int i = 0; i < (kUnaligned ? kCopiesPerThread / 2 : kCopiesPerThread); ++i) {
      CopyAsync16(stage + to_ + i * 2 * kRowTileBytes,
                  WeightAddress(map, offset + TilesAway(shape, i) * shape.row_tile_bytes),
                  (is_inside_ >> i & 1) != 0 ? num_bytes : 0);
    }
    if (kUnaligned) LoadUnalignedUp(shape, map, num_outputs, step, stage);
  }

 private:
  // From row tile threadIdx.x / 128 of the block to the one of copy i.
  static __device__ int64_t TilesAway(const GemmShape& shape, int i) {
    return i % 2 * 2 + i / 2 * shape.half_row_tiles;
  }

  // Row tiles 4-7 word by word: their rows begin in the middle of a row tile of the matrix.
  __device__ void LoadUnalignedUp(const GemmShape& shape, const WeightMap& map, int num_outputs,
                                  int step, uint32_t stage) const {
    constexpr int kWords = kHalfRowTiles * kRowTileBytes / 4;
    for (int word = threadIdx.x; word < kWords; word += kGemmThreads) {
      const int block_row = word / (kRowTileBytes / 4) * kTileRows + word % kTileRows;
      const int line = word / kTileRows % (kStepInputs / 2);
      const int row = num_outputs + first_tile_ * kTileRows + block_row;
      const int pair = step * (kStepInputs / 2) + line;
      const bool is_inside = row < 2 * num_outputs && pair < shape.num_pairs;
      const int64_t offset = matrix_offset_ + row / kTileRows * shape.row_tile_bytes +
                             static_cast<int64_t>(pair) * kLineBytes + row % kTileRows * 4;
      CopyAsync4(stage + (kHalfRowTiles + block_row / kTileRows) * kRowTileBytes +
                     line * kLineBytes + SwapHalves(block_row % kTileRows * 4, line),
                 WeightAddress(map, offset), is_inside ? 4 : 0);
    }
  }

  int64_t matrix_offset_;
  int64_t offset_;      // of copy 0 in step 0
  uint32_t to_;         // place of copy 0 in a stage
  uint32_t is_inside_;  // bit i: copy i is of a row tile of the matrix
  int line_;
  int first_tile_;
};

// This thread's share of the tokens: in each step piece `threadIdx.x % 8` of tokens
// threadIdx.x / 8 + {0, 32, 64, 96}. Piece p of token n lies at piece p ^ (n % 8), so that the 8
// rows of a matrix of ldmatrix lie in different banks. Tokens beyond the tile keep what was there;
// their results are not stored.
class TokenLoader {
 public:
  __device__ TokenLoader(const GroupedGemmParams& params, int first_slot, int num_slots)
      : in_(static_cast<const char*>(params.in)) {
    constexpr int kPieces = kTokenBytes / 16;
    const int piece = threadIdx.x % kPieces;
    const int token = threadIdx.x / kPieces;
    to_ = kWeightStageBytes + token * kTokenBytes + (piece ^ (token % 8)) * 16;
#pragma unroll
    for (int i = 0; i < kCopiesPerThread; ++i) {
      const int n = token + i * kTokensApart;
      pieces_[i] = kNone;
      if (n >= num_slots) continue;
      const int slot = first_slot + n;
      const uint32_t row = params.slot_tokens == nullptr ? slot : params.slot_tokens[slot];
      pieces_[i] = row * (params.in_stride / 8u) + piece;
    }
  }

  __device__ void Load(int step, uint32_t stage) const {
#pragma unroll
    for (int i = 0; i < kCopiesPerThread; ++i) {
      if (pieces_[i] == kNone) continue;
      const uint32_t piece = pieces_[i] + step * (kTokenBytes / 16);
      CopyAsync16(stage + to_ + i * kTokensApart * kTokenBytes,
                  in_ + static_cast<int64_t>(piece) * 16, 16);
    }
  }

 private:
  static constexpr int kTokensApart = kGemmThreads * 16 / kTokenBytes;
  static constexpr uint32_t kNone = UINT32_MAX;

  const char* in_;
  uint32_t to_;                        // place of copy 0 in a stage
  uint32_t pieces_[kCopiesPerThread];  // where copy i of step 0 lies, in 16 bytes
};

// Sums of one warp: [row tiles w / 2, w / 2 + 4][groups of 8 tokens w % 2 + 2j]. Of a group, lane l
// has rows 2 (l / 4) (elements 0 and 1) and the next (2 and 3) for tokens 2 (l % 4) (0 and 2) and
// the next (1 and 3).
struct WarpSums {
  static constexpr int kGroups = kMoeTileSlots / 8 / 2;
  float values[2][kGroups][4] = {};
};

// Adds the products of a stage for groups j < 2 * kGroupPairs.
template <int kGroupPairs>
__device__ __forceinline__ void MultiplyStage(uint32_t stage, WarpSums& sums) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warp = threadIdx.x / 32;
  const uint32_t line = lane % 4;
  const uint32_t weights =
      stage + warp / 2 * kRowTileBytes + line * kLineBytes + SwapHalves(lane / 4 * 8, line);
  // Matrices 0 and 1 of ldmatrix are inputs 0-7 and 8-15 of the first group, 2 and 3 of the second.
  const uint32_t group = warp % 2 + lane / 16 * 2;
  const uint32_t tokens = stage + kWeightStageBytes + (group * 8 + lane % 8) * kTokenBytes +
                          ((lane / 8 % 2) ^ (lane % 8)) * 16;
#pragma unroll
  for (int k = 0; k < kStepInputs / 16; ++k) {
    uint2 a[2][2];  // [row tile][inputs 0-7, 8-15]
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        a[m][half] = LoadShared8(weights + m * kHalfRowTiles * kRowTileBytes +
                                 (k * 8 + half * 4) * kLineBytes);
      }
    }
#pragma unroll
    for (int pair = 0; pair < kGroupPairs; ++pair) {
      uint32_t b[4];
      LoadMatrices4(b, (tokens ^ (k * 32)) + pair * 4 * 8 * kTokenBytes);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        MultiplyAdd16x8x16(sums.values[m][2 * pair], a[m][0], a[m][1], b[0], b[1]);
        MultiplyAdd16x8x16(sums.values[m][2 * pair + 1], a[m][0], a[m][1], b[2], b[3]);
      }
    }
  }
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_GROUPED_GEMM_CUH_
