// The router: logits in fp32, softmax and the best experts, then the slots of Routing by a stable
// counting sort over chunks of kRouterChunkTokens tokens.
#include <cstdint>

#include "engine/backend/cuda/moe_kernels.h"
#include "engine/backend/cuda/moe_ptx.cuh"

namespace moelight {
namespace {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// ---- Logits: a block makes 32 tokens by 8 * kExpertsPerThread experts. ----
//
// Its four groups of 64 threads share out the inputs: group g takes quads 2g and 2g + 1 of every
// step of 8 quads. A thread has 4 tokens by kExpertsPerThread experts. All sums are in an order
// that only the position in the row decides.
constexpr int kLogitThreads = 256;
constexpr int kLogitGroups = 4;
constexpr int kLogitTokens = 32;
constexpr int kStepQuads = 8;
constexpr int kQuadsPerGroup = kStepQuads / kLogitGroups;
constexpr int kLogitStages = 3;
// A pad of one quad puts equal quads of 8 consecutive rows into different banks.
constexpr int kRowFloats = (kStepQuads + 1) * 4;

template <int kExpertsPerThread>
struct LogitTile {
  static constexpr int kExperts = 8 * kExpertsPerThread;
  static constexpr int kRows = kLogitTokens + kExperts;  // of x, then of the weight
  static constexpr int kStageFloats = kRows * kRowFloats;
  static constexpr int kOutputs = kLogitTokens * kExperts;
  static constexpr int kSharedFloats = kLogitStages * kStageFloats;
  static_assert(kSharedFloats * sizeof(float) <= 48 * 1024, "the most without asking for more");
  static_assert(kLogitGroups * kOutputs <= kSharedFloats, "the groups' sums use the same memory");
};

// Starts the copy of one step of rows; zeros where there is no row or column.
template <int kExpertsPerThread>
__device__ __forceinline__ void LoadLogitStep(const RouterParams& params, bool has_quads, int step,
                                              float* stage) {
  using Tile = LogitTile<kExpertsPerThread>;
  for (int i = threadIdx.x; i < Tile::kRows * kStepQuads; i += kLogitThreads) {
    const int row = i / kStepQuads;
    const int quad = i % kStepQuads;
    const int col = (step * kStepQuads + quad) * 4;
    const bool is_token = row < kLogitTokens;
    const int index = is_token ? blockIdx.x * kLogitTokens + row
                               : blockIdx.y * Tile::kExperts + row - kLogitTokens;
    const bool has_row = index < (is_token ? params.num_tokens : params.num_experts);
    const float* from = (is_token ? params.x : params.weight);
    if (has_row) from += static_cast<int64_t>(index) * params.hidden_size;
    const int num_cols = has_row ? params.hidden_size - col : 0;
    const uint32_t to = SharedAddress(stage + row * kRowFloats + quad * 4);
    if (has_quads) {
      CopyAsync16(to, num_cols > 0 ? from + col : from, num_cols > 0 ? 16 : 0);
      continue;
    }
    for (int c = 0; c < 4; ++c) {
      CopyAsync4(to + c * 4, c < num_cols ? from + col + c : from, c < num_cols ? 4 : 0);
    }
  }
}

template <int kExpertsPerThread>
__device__ __forceinline__ void MultiplyLogitStep(const float* stage,
                                                  float (&sums)[4][kExpertsPerThread]) {
  const int group = threadIdx.x / 64;
  const int token = threadIdx.x % 64 / 8;
  const int expert = threadIdx.x % 8;
#pragma unroll
  for (int q = 0; q < kQuadsPerGroup; ++q) {
    const float* column = stage + (group * kQuadsPerGroup + q) * 4;
    float4 x[4];
    float4 w[kExpertsPerThread];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[i] = *reinterpret_cast<const float4*>(column + (token + 8 * i) * kRowFloats);
    }
#pragma unroll
    for (int j = 0; j < kExpertsPerThread; ++j) {
      w[j] =
          *reinterpret_cast<const float4*>(column + (kLogitTokens + expert + 8 * j) * kRowFloats);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kExpertsPerThread; ++j) {
        float sum = fmaf(x[i].x, w[j].x, sums[i][j]);
        sum = fmaf(x[i].y, w[j].y, sum);
        sum = fmaf(x[i].z, w[j].z, sum);
        sums[i][j] = fmaf(x[i].w, w[j].w, sum);
      }
    }
  }
}

// `has_quads`: rows can be read four floats at a time.
template <int kExpertsPerThread>
__global__ void __launch_bounds__(kLogitThreads) LogitsKernel(RouterParams params, bool has_quads) {
  using Tile = LogitTile<kExpertsPerThread>;
  __shared__ __align__(128) float shared[Tile::kSharedFloats];
  const int num_steps = (params.hidden_size + kStepQuads * 4 - 1) / (kStepQuads * 4);
  const auto load = [&](int step) {
    if (step < num_steps) {
      LoadLogitStep<kExpertsPerThread>(params, has_quads, step,
                                       shared + step % kLogitStages * Tile::kStageFloats);
    }
    CommitCopies();
  };
  for (int step = 0; step < kLogitStages - 1; ++step) load(step);
  float sums[4][kExpertsPerThread] = {};
  for (int step = 0; step < num_steps; ++step) {
    WaitForCopies<kLogitStages - 2>();
    __syncthreads();
    load(step + kLogitStages - 1);
    MultiplyLogitStep<kExpertsPerThread>(shared + step % kLogitStages * Tile::kStageFloats, sums);
  }
  WaitForCopies<0>();
  __syncthreads();

  // [group][token][expert]
  const int group = threadIdx.x / 64;
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < kExpertsPerThread; ++j) {
      const int token = threadIdx.x % 64 / 8 + 8 * i;
      const int expert = threadIdx.x % 8 + 8 * j;
      shared[group * Tile::kOutputs + token * Tile::kExperts + expert] = sums[i][j];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < Tile::kOutputs; i += kLogitThreads) {
    const int64_t token = blockIdx.x * kLogitTokens + i / Tile::kExperts;
    const int expert = blockIdx.y * Tile::kExperts + i % Tile::kExperts;
    if (token >= params.num_tokens || expert >= params.num_experts) continue;
    float sum = shared[i];
    for (int g = 1; g < kLogitGroups; ++g) sum += shared[g * Tile::kOutputs + i];
    params.logits[token * params.num_experts + expert] = sum;
  }
}

// ---- The best experts: a warp per token, a block per chunk. ----

constexpr int kSelectWarps = 8;
static_assert(kRouterChunkTokens % kSelectWarps == 0);
static_assert(kMaxExpertsPerToken <= kWarpSize);

// This lane's probabilities, of experts lane + 32 i; undefined beyond the last expert.
template <int kPerLane>
__device__ __forceinline__ void Softmax(const float* logits, int num_experts,
                                        float (&probabilities)[kPerLane]) {
  const int lane = threadIdx.x % kWarpSize;
  float max = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + i * kWarpSize;
    probabilities[i] = expert < num_experts ? logits[expert] : -INFINITY;
    max = fmaxf(max, probabilities[i]);
  }
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, distance));
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (lane + i * kWarpSize >= num_experts) continue;
    probabilities[i] = expf(probabilities[i] - max);
    sum += probabilities[i];
  }
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(kAllLanes, sum, distance);
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) probabilities[i] /= sum;
}

// Orders by probability, then by lower id. Never 0 for an expert. NaNs count as 0, so that every
// choice is an expert whatever the logits are.
__device__ __forceinline__ uint64_t SortKey(float probability, uint32_t expert) {
  const uint32_t bits = probability > 0 ? __float_as_uint(probability) : 0;
  return static_cast<uint64_t>(bits) << 32 | (UINT32_MAX - expert);
}

// Writes expert_ids and gates of one token and counts its experts.
template <int kPerLane>
__device__ __forceinline__ void SelectExperts(const RouterParams& params, int64_t token,
                                              int* counts) {
  const int lane = threadIdx.x % kWarpSize;
  float probabilities[kPerLane];
  Softmax<kPerLane>(params.logits + token * params.num_experts, params.num_experts, probabilities);
  uint32_t taken = 0;  // bit i: expert lane + 32 i
  float sum = 0;
  float my_gate = 0;
  int my_expert = 0;
  for (int k = 0; k < params.num_experts_per_tok; ++k) {
    uint64_t best = 0;
    float gate = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = lane + i * kWarpSize;
      if (expert >= params.num_experts || (taken >> i & 1) != 0) continue;
      const uint64_t key = SortKey(probabilities[i], expert);
      if (key <= best) continue;
      best = key;
      gate = probabilities[i];
    }
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      const uint64_t other = __shfl_xor_sync(kAllLanes, best, distance);
      if (other > best) best = other;
    }
    const uint32_t expert = UINT32_MAX - static_cast<uint32_t>(best);
    gate = __shfl_sync(kAllLanes, gate, expert % kWarpSize);
    if (lane == expert % kWarpSize) taken |= 1u << (expert / kWarpSize);
    sum += gate;
    if (lane != k) continue;
    my_gate = gate;
    my_expert = static_cast<int>(expert);
  }
  if (lane >= params.num_experts_per_tok) return;
  const int64_t choice = token * params.num_experts_per_tok + lane;
  params.expert_ids[choice] = my_expert;
  params.gates[choice] = params.norm_topk_prob ? my_gate / sum : my_gate;
  atomicAdd(&counts[my_expert], 1);
}

template <int kPerLane>
__global__ void __launch_bounds__(kSelectWarps* kWarpSize) SelectKernel(RouterParams params) {
  __shared__ int counts[kPerLane * kWarpSize];
  for (int e = threadIdx.x; e < params.num_experts; e += blockDim.x) counts[e] = 0;
  __syncthreads();
  for (int n = threadIdx.x / kWarpSize; n < kRouterChunkTokens; n += kSelectWarps) {
    const int64_t token = static_cast<int64_t>(blockIdx.x) * kRouterChunkTokens + n;
    if (token < params.num_tokens) SelectExperts<kPerLane>(params, token, counts);
    __syncwarp();
  }
  __syncthreads();
  int32_t* chunk_counts = params.chunk_counts + int64_t{blockIdx.x} * params.num_experts;
  for (int e = threadIdx.x; e < params.num_experts; e += blockDim.x) chunk_counts[e] = counts[e];
}

// ---- Slots. ----

constexpr int kScanWarps = 32;

// Counts of each expert become sums over the chunks before. A lane per expert; the warps share out
// the chunks.
__global__ void __launch_bounds__(kScanWarps* kWarpSize)
    ScanChunksKernel(RouterParams params, int num_chunks) {
  __shared__ int sums[kScanWarps][kWarpSize];
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int expert = blockIdx.x * kWarpSize + lane;
  const bool has_expert = expert < params.num_experts;
  const int share = (num_chunks + kScanWarps - 1) / kScanWarps;
  const int begin = min(warp * share, num_chunks);
  const int end = has_expert ? min(begin + share, num_chunks) : begin;
  int32_t* counts = params.chunk_counts + expert;
  int sum = 0;
  for (int c = begin; c < end; ++c) sum += counts[int64_t{c} * params.num_experts];
  sums[warp][lane] = sum;
  __syncthreads();
  int before = 0;
  for (int w = 0; w < warp; ++w) before += sums[w][lane];
  for (int c = begin; c < end; ++c) {
    int32_t& count = counts[int64_t{c} * params.num_experts];
    const int own = count;
    count = before;
    before += own;
  }
  if (has_expert && warp == kScanWarps - 1) params.expert_totals[expert] = before;
}

// begins[e] = sum of totals[i] for i < e, for e <= num_experts. One warp.
__device__ __forceinline__ void ScanTotals(const int32_t* totals, int num_experts, int* begins) {
  const int lane = threadIdx.x % kWarpSize;
  const int share = (num_experts + kWarpSize - 1) / kWarpSize;
  const int first = min(lane * share, num_experts);
  const int last = min(first + share, num_experts);
  int sum = 0;
  for (int e = first; e < last; ++e) sum += totals[e];
  int end = sum;
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const int other = __shfl_up_sync(kAllLanes, end, distance);
    if (lane >= distance) end += other;
  }
  int begin = end - sum;
  for (int e = first; e < last; ++e) {
    begins[e] = begin;
    begin += totals[e];
  }
  if (lane == kWarpSize - 1) begins[num_experts] = end;
}

// A block per chunk and a thread per expert, which finds its tokens in order.
__global__ void __launch_bounds__(kMaxRouterExperts) FillSlotsKernel(RouterParams params) {
  __shared__ int begins[kMaxRouterExperts + 1];
  __shared__ int32_t ids[kRouterChunkTokens * kMaxExpertsPerToken];
  const int num_kept = params.num_experts_per_tok;
  const int first_token = blockIdx.x * kRouterChunkTokens;
  const int num_tokens = min(kRouterChunkTokens, params.num_tokens - first_token);
  const int64_t first_choice = int64_t{first_token} * num_kept;
  for (int i = threadIdx.x; i < num_tokens * num_kept; i += blockDim.x) {
    ids[i] = params.expert_ids[first_choice + i];
  }
  if (threadIdx.x < kWarpSize) ScanTotals(params.expert_totals, params.num_experts, begins);
  __syncthreads();
  const int expert = threadIdx.x;
  if (blockIdx.x == 0) {
    for (int e = expert; e <= params.num_experts; e += blockDim.x) {
      params.expert_offsets[e] = begins[e];
    }
  }
  if (expert >= params.num_experts) return;
  int slot =
      begins[expert] + params.chunk_counts[int64_t{blockIdx.x} * params.num_experts + expert];
  for (int token = 0; token < num_tokens; ++token) {
    for (int k = 0; k < num_kept; ++k) {
      const int i = token * num_kept + k;
      if (ids[i] != expert) continue;
      params.slot_tokens[slot] = first_token + token;
      params.token_slots[first_choice + i] = slot;
      ++slot;
    }
  }
}

template <int kExpertsPerThread>
void LaunchLogits(const RouterParams& params, cudaStream_t stream) {
  constexpr int kExperts = LogitTile<kExpertsPerThread>::kExperts;
  const dim3 grid((params.num_tokens + kLogitTokens - 1) / kLogitTokens,
                  (params.num_experts + kExperts - 1) / kExperts);
  const bool has_quads = params.hidden_size % 4 == 0 &&
                         reinterpret_cast<uintptr_t>(params.x) % sizeof(float4) == 0 &&
                         reinterpret_cast<uintptr_t>(params.weight) % sizeof(float4) == 0;
  LogitsKernel<kExpertsPerThread><<<grid, kLogitThreads, 0, stream>>>(params, has_quads);
}

}  // namespace

cudaError_t LaunchRouter(const RouterParams& params, cudaStream_t stream) {
  // The choice depends on the model alone, so that a token's logits have the same bits in any call.
  if (params.num_experts <= LogitTile<2>::kExperts) {
    LaunchLogits<2>(params, stream);
  } else {
    LaunchLogits<8>(params, stream);
  }
  cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;

  const int num_chunks = (params.num_tokens + kRouterChunkTokens - 1) / kRouterChunkTokens;
  constexpr int kSelectThreads = kSelectWarps * kWarpSize;
  constexpr int kFewPerLane = 4;  // holds for 128 experts
  if (params.num_experts <= kFewPerLane * kWarpSize) {
    SelectKernel<kFewPerLane><<<num_chunks, kSelectThreads, 0, stream>>>(params);
  } else {
    SelectKernel<kMaxRouterExperts / kWarpSize><<<num_chunks, kSelectThreads, 0, stream>>>(params);
  }
  error = cudaGetLastError();
  if (error != cudaSuccess) return error;

  const int num_expert_warps = (params.num_experts + kWarpSize - 1) / kWarpSize;
  ScanChunksKernel<<<num_expert_warps, kScanWarps * kWarpSize, 0, stream>>>(params, num_chunks);
  error = cudaGetLastError();
  if (error != cudaSuccess) return error;

  FillSlotsKernel<<<num_chunks, num_expert_warps * kWarpSize, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace moelight
