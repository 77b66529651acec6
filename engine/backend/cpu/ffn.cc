#include "engine/backend/cpu/ffn.h"

#include "engine/backend/cpu/matmul.h"
#include "engine/backend/formats/bf16_tiled.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Rows in flight between the two projections. Enough for every thread to have work; more would only
// take memory: 1024 rows of Mixtral's 14336 columns are 56 MiB.
constexpr int64_t kWaveRows = 1024;
// Columns of gate and of up that a task computes before SwiGLU: with 128 rows, 2 * 132 KiB, which
// stay in L2.
constexpr int64_t kGateTiles = 16;
// One more tile, because up rows need not begin at a tile.
constexpr int64_t kGateStride = (kGateTiles + 1) * kBf16TileRows;
constexpr int64_t kGateBytes = kGemmMaxRows * kGateStride * static_cast<int64_t>(sizeof(float));
constexpr int64_t kDownTiles = 32;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t HiddenBytes(const OpLimits& limits) {
  const int64_t num_rows =
      std::min(kWaveRows, limits.max_tokens * std::max<int64_t>(1, limits.num_experts_per_tok));
  return num_rows * limits.max_intermediate_size * static_cast<int64_t>(sizeof(float));
}
int64_t ExpertRowBytes(const OpLimits& limits) {
  return limits.max_tokens * limits.num_experts_per_tok * limits.hidden_size *
         static_cast<int64_t>(sizeof(float));
}

}  // namespace

int64_t CpuFfn::ScratchBytes(const OpLimits& limits) {
  return HiddenBytes(limits) + ExpertRowBytes(limits);
}

int64_t CpuFfn::WorkerScratchBytes() { return kGemmScratchBytes + 2 * kGateBytes; }

absl::Status CpuFfn::Reserve(const OpLimits& limits) {
  // A wave has at most one short chunk per expert beside the full ones.
  chunks_.reserve(kWaveRows / (kGemmMaxRows / 2) + limits.num_experts + 1);
  RETURN_IF_ERROR(h_.Resize(HiddenBytes(limits), "the hidden rows of experts"));
  return expert_rows_.Resize(ExpertRowBytes(limits), "the output rows of experts");
}

void CpuFfn::RunMoe(const MoeFfnArgs& args) {
  const int64_t num_tokens = args.x.dim(0);
  const int64_t num_kept = args.routing.expert_ids.dim(1);
  const int64_t hidden_size = args.x.dim(1);
  CHECK_LE(num_tokens * num_kept * hidden_size * static_cast<int64_t>(sizeof(float)),
           expert_rows_.size())
      << "beyond Reserve()";
  const Layer layer = {
      .x = args.x.as<float>(),
      .row_ids = args.routing.slot_tokens.as<int32_t>(),
      .hidden_size = hidden_size,
      .intermediate_size = args.experts.front().down.num_cols,
      .y = expert_rows_.as<float>(),
      .accumulate = false,
  };
  const int32_t* offsets = args.routing.expert_offsets.as<int32_t>();
  for (size_t e = 0; e < args.experts.size(); ++e) {
    AddRows(layer, args.experts[e], offsets[e], offsets[e + 1]);
  }
  RunWave(layer);

  context_->ForRows(num_tokens, hidden_size * (num_kept + 1), [&](int64_t token) {
    CombineCall call;
    call.rows = layer.y;
    call.slots = args.routing.token_slots.as<int32_t>() + token * num_kept;
    call.gates = args.routing.gates.as<float>() + token * num_kept;
    call.num_slots = static_cast<int32_t>(num_kept);
    call.num_cols = hidden_size;
    call.y = args.y.as<float>() + token * hidden_size;
    context_->kernels.combine(call);
  });
}

void CpuFfn::RunDense(const DenseFfnArgs& args) {
  const Layer layer = {
      .x = args.x.as<float>(),
      .row_ids = nullptr,
      .hidden_size = args.x.dim(1),
      .intermediate_size = args.weights.down.num_cols,
      .y = args.y.as<float>(),
      .accumulate = true,
  };
  AddRows(layer, args.weights, 0, args.x.dim(0));
  RunWave(layer);
}

void CpuFfn::AddRows(const Layer& layer, const FfnWeights& weights, int64_t begin, int64_t end) {
  const int64_t num_chunks = CeilDiv(end - begin, kGemmMaxRows);
  int64_t row = begin;
  for (int64_t i = 1; i <= num_chunks; ++i) {
    const int64_t row_end = begin + i * (end - begin) / num_chunks;
    if (wave_rows_ + row_end - row > kWaveRows) RunWave(layer);
    if (chunks_.empty()) wave_begin_ = row;
    chunks_.push_back({&weights, row, row_end - row});
    wave_rows_ += row_end - row;
    row = row_end;
  }
}

void CpuFfn::RunWave(const Layer& layer) {
  if (chunks_.empty()) return;
  CHECK_LE(wave_rows_ * layer.intermediate_size * static_cast<int64_t>(sizeof(float)), h_.size())
      << "beyond Reserve()";
  const int64_t num_chunks = static_cast<int64_t>(chunks_.size());
  const int num_threads = context_->runner.num_threads();
  const auto run = [&](int64_t num_tiles, int64_t max_tiles, int64_t num_macs, auto&& body) {
    const int64_t step = TilesPerTask(num_tiles, max_tiles, num_chunks, num_threads);
    const int64_t num_blocks = CeilDiv(num_tiles, step);
    const int64_t num_tasks = num_chunks * num_blocks;
    const int64_t grain = num_macs < kMinTaskMacs ? num_tasks : 1;
    context_->runner.For(num_tasks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t tile = task % num_blocks * step;
        body(chunks_[task / num_blocks], tile, std::min(num_tiles, tile + step));
      }
    });
  };
  const int64_t down_macs = wave_rows_ * layer.hidden_size * layer.intermediate_size;
  run(Bf16TiledNumTiles(layer.intermediate_size), kGateTiles, 2 * down_macs,
      [&](const Chunk& chunk, int64_t begin, int64_t end) { GateUp(layer, chunk, begin, end); });
  run(Bf16TiledNumTiles(layer.hidden_size), kDownTiles, down_macs,
      [&](const Chunk& chunk, int64_t begin, int64_t end) { Down(layer, chunk, begin, end); });
  chunks_.clear();
  wave_rows_ = 0;
}

// h = silu(gate) * up for the intermediate columns in tiles [tile_begin, tile_end).
void CpuFfn::GateUp(const Layer& layer, const Chunk& chunk, int64_t tile_begin, int64_t tile_end) {
  char* scratch = context_->WorkerScratch(WorkerScratchBytes());
  float* gate = reinterpret_cast<float*>(scratch + kGemmScratchBytes);
  float* up = reinterpret_cast<float*>(scratch + kGemmScratchBytes + kGateBytes);
  const int64_t col_begin = tile_begin * kBf16TileRows;
  const int64_t col_end = std::min(layer.intermediate_size, tile_end * kBf16TileRows);
  const int64_t up_begin = layer.intermediate_size + col_begin;
  const int64_t up_end = layer.intermediate_size + col_end;

  GemmCall call;
  call.x = layer.row_ids != nullptr ? layer.x : layer.x + chunk.row_begin * layer.hidden_size;
  call.x_stride = layer.hidden_size;
  call.row_ids = layer.row_ids != nullptr ? layer.row_ids + chunk.row_begin : nullptr;
  call.num_rows = chunk.num_rows;
  call.num_cols = layer.hidden_size;
  call.weight = static_cast<const uint16_t*>(chunk.weights->gate_up.data);
  call.weight_rows = 2 * layer.intermediate_size;
  call.y_stride = kGateStride;
  call.scratch = scratch;
  call.tile_begin = tile_begin;
  call.tile_end = tile_end;
  call.y = gate;
  context_->kernels.gemm(call);
  call.tile_begin = up_begin / kBf16TileRows;
  call.tile_end = CeilDiv(up_end, kBf16TileRows);
  call.y = up;
  context_->kernels.gemm(call);

  float* h = h_.as<float>() + (chunk.row_begin - wave_begin_) * layer.intermediate_size + col_begin;
  for (int64_t r = 0; r < chunk.num_rows; ++r) {
    context_->kernels.swiglu(gate + r * kGateStride,
                             up + r * kGateStride + up_begin % kBf16TileRows, col_end - col_begin,
                             h + r * layer.intermediate_size);
  }
}

void CpuFfn::Down(const Layer& layer, const Chunk& chunk, int64_t tile_begin, int64_t tile_end) {
  GemmCall call;
  call.x = h_.as<float>() + (chunk.row_begin - wave_begin_) * layer.intermediate_size;
  call.x_stride = layer.intermediate_size;
  call.num_rows = chunk.num_rows;
  call.num_cols = layer.intermediate_size;
  call.weight = static_cast<const uint16_t*>(chunk.weights->down.data);
  call.weight_rows = layer.hidden_size;
  call.tile_begin = tile_begin;
  call.tile_end = tile_end;
  call.y = layer.y + chunk.row_begin * layer.hidden_size + tile_begin * kBf16TileRows;
  call.y_stride = layer.hidden_size;
  call.accumulate = layer.accumulate;
  call.scratch = context_->WorkerScratch(kGemmScratchBytes);
  context_->kernels.gemm(call);
}

}  // namespace moelight
