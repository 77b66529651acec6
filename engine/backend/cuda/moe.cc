#include "engine/backend/cuda/moe.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/backend/cuda/moe_kernels.h"
#include "engine/backend/formats/bf16_tiled.h"

namespace moelight {
namespace {

absl::Status LaunchStatus(absl::string_view what, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(what, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int32_t CheckedInt32(int64_t value) {
  CHECK(value >= 0 && value <= std::numeric_limits<int32_t>::max()) << value;
  return static_cast<int32_t>(value);
}

// Lays out buffers one after the other, each aligned to 256 bytes.
class ScratchLayout {
 public:
  int64_t Add(int64_t num_elements, int64_t element_bytes) {
    const int64_t offset = bytes_;
    bytes_ += RoundUp(num_elements * element_bytes, 256);
    return offset;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

// Both grow with every argument, so that what holds the limits holds every call within them. The
// router has ended before the experts begin, so they share the memory.
struct RouterScratch {
  RouterScratch(int64_t num_tokens, int64_t num_experts) {
    logits = layout.Add(num_tokens * num_experts, sizeof(float));
    chunk_counts =
        layout.Add(RoundUp(num_tokens, kRouterChunkTokens) / kRouterChunkTokens * num_experts,
                   sizeof(int32_t));
    expert_totals = layout.Add(num_experts, sizeof(int32_t));
  }
  ScratchLayout layout;
  int64_t logits, chunk_counts, expert_totals;  // offsets
};

struct FfnScratch {
  FfnScratch(int64_t num_tokens, int64_t num_slots, int64_t num_experts, int64_t hidden_size,
             int64_t intermediate_size)
      : x_stride(RoundUp(hidden_size, kMoeRowElements)),
        h_stride(RoundUp(intermediate_size, kMoeRowElements)) {
    tiles = layout.Add(MaxSlotTiles(num_slots, num_experts), sizeof(SlotTile));
    x = layout.Add(num_tokens * x_stride, sizeof(BFloat16));
    h = layout.Add(num_slots * h_stride, sizeof(BFloat16));
    out = layout.Add(num_slots * x_stride, sizeof(float));
  }
  ScratchLayout layout;
  int64_t x_stride, h_stride;  // elements
  int64_t tiles, x, h, out;    // offsets
};

// Offsets are from the home of the experts, or addresses without pages.
int64_t Offset(const WeightPages& pages, const WeightMatrix& matrix) {
  int64_t offset = reinterpret_cast<intptr_t>(matrix.data);
  if (pages.defined()) {
    offset -= reinterpret_cast<intptr_t>(pages.storage);
    CHECK_LE(offset + matrix.format->bytes(matrix.num_rows, matrix.num_cols),
             (pages.num_resident + pages.num_ring_slots) * pages.page_bytes);
  }
  CHECK(offset >= 0 && offset % 64 == 0) << offset;
  return offset;
}

WeightMap MakeWeightMap(const WeightPages& pages) {
  WeightMap map;
  if (!pages.defined()) return map;
  // Page p of the ring lies in slot first_slot + p - num_resident, less num_ring_slots from the
  // page on that reaches the end.
  map.resident = reinterpret_cast<intptr_t>(pages.resident);
  map.ring = reinterpret_cast<intptr_t>(pages.ring) +
             (pages.first_slot - pages.num_resident) * pages.page_bytes;
  map.wrapped_ring = map.ring - pages.num_ring_slots * pages.page_bytes;
  map.ring_begin = pages.num_resident * pages.page_bytes;
  map.wrap_begin =
      (pages.num_resident + pages.num_ring_slots - pages.first_slot) * pages.page_bytes;
  return map;
}

// Whether expert e lies at the first one's place + e * *stride.
bool FindStride(absl::Span<const FfnWeights> experts, int64_t* stride) {
  const auto address = [](const WeightMatrix& matrix) {
    return reinterpret_cast<intptr_t>(matrix.data);
  };
  *stride = experts.size() > 1 ? address(experts[1].gate_up) - address(experts[0].gate_up) : 0;
  for (size_t e = 1; e < experts.size(); ++e) {
    const int64_t moved = static_cast<int64_t>(e) * *stride;
    if (address(experts[e].gate_up) != address(experts[0].gate_up) + moved) return false;
    if (address(experts[e].down) != address(experts[0].down) + moved) return false;
  }
  return true;
}

PlanTilesParams MakePlan(const MoeFfnArgs& args, SlotTile* tiles, int32_t max_tiles) {
  PlanTilesParams params;
  params.expert_offsets = args.routing.expert_offsets.as<int32_t>();
  params.num_experts = CheckedInt32(static_cast<int64_t>(args.experts.size()));
  params.tiles = tiles;
  params.max_tiles = max_tiles;
  params.has_stride = FindStride(args.experts, &params.expert_stride);
  CHECK(params.has_stride || params.num_experts <= kMaxScatteredExperts)
      << params.num_experts << " experts without a constant stride, at most "
      << kMaxScatteredExperts;
  // Also those that the device finds by the stride are checked.
  for (int32_t e = 0; e < params.num_experts; ++e) {
    const int64_t gate_up = Offset(args.pages, args.experts[e].gate_up);
    const int64_t down = Offset(args.pages, args.experts[e].down);
    if (params.has_stride && e > 0) continue;
    params.gate_up_offsets[e] = gate_up;
    params.down_offsets[e] = down;
  }
  return params;
}

}  // namespace

int64_t CudaMoe::ScratchBytes(const OpLimits& limits) {
  const RouterScratch router(limits.max_tokens, limits.num_experts);
  const FfnScratch ffn(limits.max_tokens, limits.max_tokens * limits.num_experts_per_tok,
                       limits.num_experts, limits.hidden_size, limits.max_intermediate_size);
  return std::max(router.layout.bytes(), ffn.layout.bytes());
}

void CudaMoe::Reserve(const OpLimits& limits, char* scratch) {
  CHECK_EQ(reinterpret_cast<uintptr_t>(scratch) % 256, uintptr_t{0});
  scratch_bytes_ = ScratchBytes(limits);
  scratch_ = scratch;
}

absl::Status CudaMoe::Router(const RouterArgs& args, cudaStream_t stream) {
  const int64_t num_tokens = args.x.dim(0);
  const int64_t num_experts = args.weight.dim(0);
  CHECK_LE(num_experts, int64_t{kMaxRouterExperts});
  CHECK_LE(args.num_experts_per_tok, kMaxExpertsPerToken);
  if (num_tokens == 0) {
    return LaunchStatus("router", cudaMemsetAsync(args.routing.expert_offsets.data, 0,
                                                  args.routing.expert_offsets.bytes(), stream));
  }
  const RouterScratch scratch(num_tokens, num_experts);
  CHECK_LE(scratch.layout.bytes(), scratch_bytes_) << "beyond Reserve()";
  RouterParams params;
  params.x = args.x.as<float>();
  params.weight = args.weight.as<float>();
  params.num_tokens = CheckedInt32(num_tokens);
  params.hidden_size = CheckedInt32(args.x.dim(1));
  params.num_experts = CheckedInt32(num_experts);
  params.num_experts_per_tok = args.num_experts_per_tok;
  params.norm_topk_prob = args.norm_topk_prob;
  params.logits = reinterpret_cast<float*>(scratch_ + scratch.logits);
  params.chunk_counts = reinterpret_cast<int32_t*>(scratch_ + scratch.chunk_counts);
  params.expert_totals = reinterpret_cast<int32_t*>(scratch_ + scratch.expert_totals);
  params.expert_ids = args.routing.expert_ids.as<int32_t>();
  params.gates = args.routing.gates.as<float>();
  params.expert_offsets = args.routing.expert_offsets.as<int32_t>();
  params.slot_tokens = args.routing.slot_tokens.as<int32_t>();
  params.token_slots = args.routing.token_slots.as<int32_t>();
  CheckedInt32(num_tokens * args.num_experts_per_tok);
  return LaunchStatus("router", LaunchRouter(params, stream));
}

absl::Status CudaMoe::MoeFfn(const MoeFfnArgs& args, cudaStream_t stream) {
  const int64_t num_tokens = args.x.dim(0);
  if (num_tokens == 0) return absl::OkStatus();
  const int64_t num_kept = args.routing.expert_ids.dim(1);
  const int64_t num_slots = num_tokens * num_kept;
  const int64_t num_experts = static_cast<int64_t>(args.experts.size());
  const WeightMatrix& down = args.experts.front().down;
  CHECK(down.format == &kBf16TiledFormat) << down.format->name;
  CHECK_LE(num_experts, int64_t{kMaxRouterExperts});
  const FfnScratch scratch(num_tokens, num_slots, num_experts, down.num_rows, down.num_cols);
  CHECK_LE(scratch.layout.bytes(), scratch_bytes_) << "beyond Reserve()";
  // The products address rows by 32 bits, in pieces of 8 elements.
  CHECK_LT(num_slots * std::max(scratch.x_stride, scratch.h_stride) / 8,
           int64_t{std::numeric_limits<uint32_t>::max()});

  auto* tiles = reinterpret_cast<SlotTile*>(scratch_ + scratch.tiles);
  const int32_t max_tiles = CheckedInt32(MaxSlotTiles(num_slots, num_experts));
  cudaError_t error = LaunchPlanTiles(MakePlan(args, tiles, max_tiles), stream);
  if (error != cudaSuccess) return LaunchStatus("plan of the experts", error);

  const RowsToBf16Params rows = {args.x.as<float>(), scratch_ + scratch.x, CheckedInt32(num_tokens),
                                 CheckedInt32(down.num_rows), CheckedInt32(scratch.x_stride)};
  error = LaunchRowsToBf16(rows, stream);
  if (error != cudaSuccess) return LaunchStatus("rows of the experts", error);

  GroupedGemmParams gemm;
  gemm.weights = MakeWeightMap(args.pages);
  gemm.tiles = tiles;
  gemm.max_tiles = max_tiles;
  gemm.num_outputs = CheckedInt32(down.num_cols);
  gemm.num_inputs = rows.num_cols;
  gemm.in = rows.out;
  gemm.in_stride = rows.out_stride;
  gemm.slot_tokens = args.routing.slot_tokens.as<int32_t>();
  gemm.out = scratch_ + scratch.h;
  gemm.out_stride = CheckedInt32(scratch.h_stride);
  error = LaunchGroupedGateUp(gemm, stream);
  if (error != cudaSuccess) return LaunchStatus("gate and up products", error);

  std::swap(gemm.num_outputs, gemm.num_inputs);
  std::swap(gemm.in_stride, gemm.out_stride);
  gemm.in = gemm.out;
  gemm.slot_tokens = nullptr;
  gemm.out = scratch_ + scratch.out;
  error = LaunchGroupedDown(gemm, stream);
  if (error != cudaSuccess) return LaunchStatus("down products", error);

  CombineParams combine;
  combine.out = static_cast<const float*>(gemm.out);
  combine.gates = args.routing.gates.as<float>();
  combine.token_slots = args.routing.token_slots.as<int32_t>();
  combine.y = args.y.as<float>();
  combine.num_tokens = rows.num_rows;
  combine.num_experts_per_tok = CheckedInt32(num_kept);
  combine.hidden_size = rows.num_cols;
  combine.out_stride = gemm.out_stride;
  return LaunchStatus("sum of the experts", LaunchCombine(combine, stream));
}

}  // namespace moelight
