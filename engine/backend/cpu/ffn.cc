#include "engine/backend/cpu/ffn.h"

#include "engine/backend/cpu/matmul.h"
#include "engine/backend/formats/bf16_tiled.h"
#include "engine/base/ceil_div.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Rows in flight between the two projections. Enough for every thread to have work; more would only
// take memory: 1024 rows of Mixtral's 14336 columns are 28 MiB of bf16.
constexpr int64_t kWaveRows = 2 * kGemmMaxRows;
// Columns of gate and of up that a task computes before SwiGLU: with 512 rows, sums of 512 KiB
// each.
constexpr int64_t kGateTiles = 16;
// One more tile, because up rows need not begin at a tile.
constexpr int64_t kUpTiles = kGateTiles + 1;
constexpr int64_t kDownTiles = 32;
// Least tiles per task. With few rows two, which are read side by side. With many, each task reads
// all activations once, at K columns times 2 bytes a row for K * 16 * kManyRowsTiles operations:
// at 700 GFLOP/s a thread, 8 tiles are 5 GB/s from L3.
constexpr int64_t kFewRowsTiles = 2;
constexpr int64_t kManyRowsTiles = 8;
constexpr int64_t kManyRows = 64;
// Rows of work that reading the weights of a chunk is worth: with 100 GB/s and 10 TFLOP/s, 100; of
// machines without AMX fewer. Only the balance among threads depends on it.
constexpr int64_t kWeightRows = 48;

int64_t WaveRows(const OpLimits& limits) {
  return std::min(kWaveRows, limits.max_tokens * std::max<int64_t>(1, limits.num_experts_per_tok));
}
int64_t ExpertRowBytes(const OpLimits& limits) {
  return limits.max_tokens * limits.num_experts_per_tok * limits.hidden_size *
         static_cast<int64_t>(sizeof(float));
}

}  // namespace

int64_t CpuFfn::ScratchBytes(const OpLimits& limits) { return ExpertRowBytes(limits); }

int64_t CpuFfn::PanelBytes(const OpLimits& limits, const CpuKernels& kernels) {
  const int64_t num_cols =
      PackedCols(limits.hidden_size) + PackedCols(limits.max_intermediate_size);
  return WaveRows(limits) * num_cols * kernels.act_bytes;
}

int64_t CpuFfn::WorkerScratchBytes() {
  return std::max(GemmSumBytes(kGemmMaxRows, kGateTiles + kUpTiles),
                  GemmSumBytes(kGemmMaxRows, kDownTiles));
}

absl::Status CpuFfn::Reserve(const OpLimits& limits) {
  // A wave has at most one short chunk per expert beside the full ones.
  chunks_.reserve(kWaveRows / (kGemmMaxRows / 2) + limits.num_experts + 1);
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
  // Long tasks first, so that none is begun last.
  std::sort(chunks_.begin(), chunks_.end(), [](const Chunk& a, const Chunk& b) {
    return a.num_rows != b.num_rows ? a.num_rows > b.num_rows : a.row_begin < b.row_begin;
  });
  const int64_t x_bytes = context_->PackedBytes(wave_rows_, layer.hidden_size);
  x_panels_ =
      context_->Panels(x_bytes + context_->PackedBytes(wave_rows_, layer.intermediate_size));
  h_panels_ = x_panels_ + x_bytes;
  PackWave(layer);
  const int64_t down_macs = wave_rows_ * layer.hidden_size * layer.intermediate_size;
  RunTasks(
      Bf16TiledNumTiles(layer.intermediate_size), kGateTiles, 2 * down_macs,
      [&](const Chunk& chunk, int64_t begin, int64_t end) { GateUp(layer, chunk, begin, end); });
  RunTasks(Bf16TiledNumTiles(layer.hidden_size), kDownTiles, down_macs,
           [&](const Chunk& chunk, int64_t begin, int64_t end) { Down(layer, chunk, begin, end); });
  chunks_.clear();
  wave_rows_ = 0;
}

void CpuFfn::PackWave(const Layer& layer) {
  const int64_t grain = kMinTaskElements / layer.hidden_size;
  context_->runner.For(wave_rows_, grain, [&](int64_t begin, int64_t end) {
    begin += wave_begin_;
    end += wave_begin_;
    for (const Chunk& chunk : chunks_) {
      const int64_t first = std::max(begin, chunk.row_begin);
      const int64_t last = std::min(end, chunk.row_begin + chunk.num_rows);
      if (first >= last) continue;
      PackCall call;
      call.x = layer.row_ids != nullptr ? layer.x : layer.x + chunk.row_begin * layer.hidden_size;
      call.x_stride = layer.hidden_size;
      call.row_ids = layer.row_ids != nullptr ? layer.row_ids + chunk.row_begin : nullptr;
      call.row_begin = first - chunk.row_begin;
      call.num_rows = last - first;
      call.num_cols = layer.hidden_size;
      call.panel = x_panels_ + context_->PackedBytes(chunk.row_begin - wave_begin_, call.num_cols);
      call.panel_rows = chunk.num_rows;
      context_->kernels.pack(call);
    }
  });
}

void CpuFfn::CutChunks(int64_t num_tiles, int64_t max_tiles) {
  const int num_threads = context_->runner.num_threads();
  const int64_t num_wanted = num_threads == 1 ? 1 : kTasksPerThread * num_threads;
  const int64_t total = wave_rows_ + kWeightRows * static_cast<int64_t>(chunks_.size());
  int64_t num_tasks = 0;
  for (Chunk& chunk : chunks_) {
    const int64_t min_tiles = chunk.num_rows < kManyRows ? kFewRowsTiles : kManyRowsTiles;
    const int64_t most = std::max<int64_t>(1, num_tiles / min_tiles);
    int64_t num_blocks = CeilDiv(num_wanted * (chunk.num_rows + kWeightRows), total);
    // Whole rounds of all threads, or some would wait for the others.
    if (num_blocks > most)
      num_blocks = most > num_threads ? most / num_threads * num_threads : most;
    const int64_t least = CeilDiv(CeilDiv(num_tiles, 2), max_tiles / 2);
    if (num_blocks < least) num_blocks = CeilDiv(least, num_threads) * num_threads;
    chunk.first_task = num_tasks;
    chunk.num_blocks = std::min(num_blocks, CeilDiv(num_tiles, 2));
    num_tasks += chunk.num_blocks;
  }
  num_tasks_ = num_tasks;
}

template <typename Body>
void CpuFfn::RunTasks(int64_t num_tiles, int64_t max_tiles, int64_t num_macs, const Body& body) {
  CutChunks(num_tiles, max_tiles);
  const int64_t grain = num_macs < kMinTaskMacs ? num_tasks_ : 1;
  context_->runner.For(num_tasks_, grain, [&](int64_t begin, int64_t end) {
    auto chunk =
        std::upper_bound(chunks_.begin(), chunks_.end(), begin,
                         [](int64_t task, const Chunk& chunk) { return task < chunk.first_task; });
    --chunk;
    for (int64_t task = begin; task < end; ++task) {
      if (task == chunk->first_task + chunk->num_blocks) ++chunk;
      const int64_t block = task - chunk->first_task;
      body(*chunk, BlockBegin(num_tiles, chunk->num_blocks, block),
           BlockBegin(num_tiles, chunk->num_blocks, block + 1));
    }
  });
}

// h = silu(gate) * up for the intermediate columns in tiles [tile_begin, tile_end).
void CpuFfn::GateUp(const Layer& layer, const Chunk& chunk, int64_t tile_begin, int64_t tile_end) {
  char* scratch = context_->WorkerScratch(WorkerScratchBytes());
  float* gate = reinterpret_cast<float*>(scratch);
  float* up = reinterpret_cast<float*>(scratch + GemmSumBytes(chunk.num_rows, kGateTiles));
  const int64_t col_begin = tile_begin * kBf16TileRows;
  const int64_t col_end = std::min(layer.intermediate_size, tile_end * kBf16TileRows);
  const int64_t up_begin = layer.intermediate_size + col_begin;
  const int64_t up_end = layer.intermediate_size + col_end;
  const int64_t row = chunk.row_begin - wave_begin_;

  GemmCall call;
  call.a = x_panels_ + context_->PackedBytes(row, layer.hidden_size);
  call.panel_rows = chunk.num_rows;
  call.num_rows = chunk.num_rows;
  call.num_cols = layer.hidden_size;
  call.weight = static_cast<const uint16_t*>(chunk.weights->gate_up.data);
  call.weight_rows = 2 * layer.intermediate_size;
  // Both halves use the same activations before the next ones come.
  const int64_t step_cols = chunk.num_rows < kManyRows ? call.num_cols : kGemmPassCols;
  for (call.col_begin = 0; call.col_begin < call.num_cols; call.col_begin = call.col_end) {
    call.col_end = std::min(call.num_cols, call.col_begin + step_cols);
    call.tile_begin = tile_begin;
    call.tile_end = tile_end;
    call.sums = gate;
    context_->kernels.gemm(call);
    call.tile_begin = up_begin / kBf16TileRows;
    call.tile_end = CeilDiv(up_end, kBf16TileRows);
    call.sums = up;
    context_->kernels.gemm(call);
  }

  SwigluCall swiglu;
  swiglu.gate = gate;
  swiglu.up = up;
  swiglu.up_offset = up_begin % kBf16TileRows;
  swiglu.num_rows = chunk.num_rows;
  swiglu.num_cols = col_end - col_begin;
  const bool last = col_end == layer.intermediate_size;
  swiglu.padded_cols = (last ? PackedCols(col_end) : col_end) - col_begin;
  swiglu.col_begin = col_begin;
  swiglu.panel = h_panels_ + context_->PackedBytes(row, layer.intermediate_size);
  swiglu.panel_rows = chunk.num_rows;
  context_->kernels.swiglu(swiglu);
}

void CpuFfn::Down(const Layer& layer, const Chunk& chunk, int64_t tile_begin, int64_t tile_end) {
  GemmCall call;
  call.a =
      h_panels_ + context_->PackedBytes(chunk.row_begin - wave_begin_, layer.intermediate_size);
  call.panel_rows = chunk.num_rows;
  call.num_rows = chunk.num_rows;
  call.num_cols = layer.intermediate_size;
  call.col_end = call.num_cols;
  call.weight = static_cast<const uint16_t*>(chunk.weights->down.data);
  call.weight_rows = layer.hidden_size;
  call.tile_begin = tile_begin;
  call.tile_end = tile_end;
  call.sums = reinterpret_cast<float*>(context_->WorkerScratch(WorkerScratchBytes()));
  call.y = layer.y + chunk.row_begin * layer.hidden_size + tile_begin * kBf16TileRows;
  call.y_stride = layer.hidden_size;
  call.accumulate = layer.accumulate;
  context_->kernels.gemm(call);
}

}  // namespace moelight
