// Launches of the router and expert kernels. Plain types only, so that the files that nvcc compiles
// and those of C++20 meet here.
//
// Every launch only enqueues work on `stream`, allocates nothing and returns the launch's error.
// Pointers are device memory. "slot" is one (token, k) in the order of Routing: by expert, then by
// token.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_MOE_KERNELS_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_MOE_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace moelight {

// One thread per expert in the grouping of slots.
inline constexpr int kMaxRouterExperts = 512;
// A lane of a warp keeps one choice; half a warp is already twice what any known model keeps.
inline constexpr int kMaxExpertsPerToken = 16;
// Tokens whose experts are counted together on the way to slots.
inline constexpr int kRouterChunkTokens = 32;

struct RouterParams {
  const float* x = nullptr;       // [num_tokens, hidden_size]
  const float* weight = nullptr;  // [num_experts, hidden_size]
  int32_t num_tokens = 0;         // >= 1
  int32_t hidden_size = 0;
  int32_t num_experts = 0;          // <= kMaxRouterExperts
  int32_t num_experts_per_tok = 0;  // <= kMaxExpertsPerToken
  bool norm_topk_prob = false;
  // Scratch:
  float* logits = nullptr;           // [num_tokens, num_experts]
  int32_t* chunk_counts = nullptr;   // [ceil(num_tokens / kRouterChunkTokens), num_experts]
  int32_t* expert_totals = nullptr;  // [num_experts]
  // As in Routing:
  int32_t* expert_ids = nullptr;
  float* gates = nullptr;
  int32_t* expert_offsets = nullptr;
  int32_t* slot_tokens = nullptr;
  int32_t* token_slots = nullptr;
};
cudaError_t LaunchRouter(const RouterParams& params, cudaStream_t stream);

// Rows of bf16 scratch are zero-padded to whole steps of the matrix products.
inline constexpr int kMoeRowElements = 64;

// Row t of `out` = bf16(row t of `x`), then zeros.
struct RowsToBf16Params {
  const float* x = nullptr;  // [num_rows, num_cols]
  void* out = nullptr;       // [num_rows, out_stride] bf16
  int32_t num_rows = 0;      // >= 1
  int32_t num_cols = 0;
  int32_t out_stride = 0;  // num_cols rounded up to kMoeRowElements
};
cudaError_t LaunchRowsToBf16(const RowsToBf16Params& params, cudaStream_t stream);

// Most slots of one expert that a block of a matrix product takes.
inline constexpr int kMoeTileSlots = 128;

// One tile of slots of one expert. The slots of an expert are dealt out evenly to its tiles.
struct SlotTile {
  int64_t gate_up_offset;  // of the expert's matrices, for WeightMap
  int64_t down_offset;
  int32_t first_slot;  // of the expert
  int32_t num_slots;   // of the expert
  int32_t first_tile;  // of the expert, in the list of tiles
  int32_t num_tiles;   // of the expert; 0: no tile
};

// Experts may lie anywhere, but kernel parameters that work with every driver end at 4 KiB. 192
// experts of two offsets take 3 KiB of it. Experts at a constant stride have no limit.
inline constexpr int kMaxScatteredExperts = 192;

// Lists the tiles of all experts, one expert after the other, and num_tiles = 0 behind them.
struct PlanTilesParams {
  const int32_t* expert_offsets = nullptr;  // [num_experts + 1]
  int32_t num_experts = 0;                  // <= kMaxRouterExperts
  SlotTile* tiles = nullptr;                // [max_tiles]
  int32_t max_tiles = 0;                    // MaxSlotTiles()
  // Expert e lies at {gate_up,down}_offsets[0] + e * expert_stride, or without that at entry e.
  bool has_stride = false;
  int64_t expert_stride = 0;
  int64_t gate_up_offsets[kMaxScatteredExperts] = {};
  int64_t down_offsets[kMaxScatteredExperts] = {};
};
cudaError_t LaunchPlanTiles(const PlanTilesParams& params, cudaStream_t stream);

// Sum of ceil(n_e / kMoeTileSlots) <= sum of (n_e / kMoeTileSlots) + number of experts with slots.
inline constexpr int64_t MaxSlotTiles(int64_t num_slots, int64_t num_experts) {
  return num_slots / kMoeTileSlots + (num_slots < num_experts ? num_slots : num_experts);
}

// Device form of WeightPages: byte b of the experts is read at
//   resident + b                   for b < ring_begin,
//   ring + b                       for b < wrap_begin,
//   wrapped_ring + b               behind that.
// The pointers are shifted by the offset of what lies there and so do not point to memory
// themselves. Without pages, offsets are addresses and everything is resident at 0.
struct WeightMap {
  int64_t resident = 0;
  int64_t ring = 0;
  int64_t wrapped_ring = 0;
  int64_t ring_begin = INT64_MAX;
  int64_t wrap_begin = INT64_MAX;
};

// One matrix product over all experts: out[s] = W_e * in[row(s)] for every slot s of every expert
// e.
struct GroupedGemmParams {
  WeightMap weights;  // of matrices in "bf16_tiled"
  const SlotTile* tiles = nullptr;
  int32_t max_tiles = 0;
  int32_t num_outputs = 0;  // GateUp: the intermediate size; Down: the hidden size
  int32_t num_inputs = 0;
  const void* in = nullptr;              // [., in_stride] bf16, zeros from num_inputs
  int32_t in_stride = 0;                 // num_inputs rounded up to kMoeRowElements
  const int32_t* slot_tokens = nullptr;  // row of each slot in `in`; null: the slot itself
  void* out = nullptr;                   // [num_slots, out_stride]
  int32_t out_stride = 0;                // num_outputs rounded up to kMoeRowElements
};
// out = bf16(silu(g) * u), [g; u] = gate_up * in, zeros from num_outputs.
cudaError_t LaunchGroupedGateUp(const GroupedGemmParams& params, cudaStream_t stream);
// out = down * in in f32; undefined from num_outputs.
cudaError_t LaunchGroupedDown(const GroupedGemmParams& params, cudaStream_t stream);

// y[t] += sum over k of gates[t, k] * out[token_slots[t, k]], in the order of k.
struct CombineParams {
  const float* out = nullptr;            // [num_slots, out_stride]
  const float* gates = nullptr;          // [num_tokens, num_experts_per_tok]
  const int32_t* token_slots = nullptr;  // [num_tokens, num_experts_per_tok]
  float* y = nullptr;                    // [num_tokens, hidden_size]
  int32_t num_tokens = 0;                // >= 1
  int32_t num_experts_per_tok = 0;
  int32_t hidden_size = 0;
  int32_t out_stride = 0;  // a multiple of 4
};
cudaError_t LaunchCombine(const CombineParams& params, cudaStream_t stream);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_MOE_KERNELS_H_
