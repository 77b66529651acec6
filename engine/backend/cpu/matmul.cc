#include "engine/backend/cpu/matmul.h"

#include "engine/backend/formats/bf16_tiled.h"
#include "engine/base/ceil_div.h"

namespace moelight {
namespace {

// Sums of 512 rows: 1 MiB.
constexpr int64_t kMaxTiles = 32;
constexpr int64_t kMinTiles = 4;
// Fewer rows than this read the weights from L2 faster than it delivers them.
constexpr int64_t kMinRows = 32;
// Weights that stay in the L2 of a core (1 MiB on the smallest in use) are cheap to read again for
// every chunk of rows; others are cut by columns first, so that each part is read few times.
constexpr int64_t kCachedWeightBytes = 768 << 10;

// Rows that are packed at a time. More would only take memory.
constexpr int64_t kWaveRows = 2 * kGemmMaxRows;

int64_t HalfRoundedUpToEven(int64_t n) { return (n / 2 + 1) / 2 * 2; }

}  // namespace

MatMulSplit SplitMatMul(int64_t num_rows, int64_t num_tiles, int64_t num_cols, int num_threads) {
  MatMulSplit split = {std::min(num_rows, kGemmMaxRows), std::min(num_tiles, kMaxTiles)};
  if (num_threads == 1) return split;
  const int64_t weight_bytes = num_tiles * kBf16TileRows * num_cols * 2;
  const bool rows_first = weight_bytes <= kCachedWeightBytes;
  const int64_t num_wanted = kTasksPerThread * num_threads;
  while (CeilDiv(num_rows, split.rows) * CeilDiv(num_tiles, split.tiles) < num_wanted) {
    const bool can_cut_rows = split.rows > kMinRows;
    const bool can_cut_tiles = split.tiles > kMinTiles;
    if (!can_cut_rows && !can_cut_tiles) break;
    if (can_cut_rows && (rows_first || !can_cut_tiles)) {
      split.rows = std::max(kMinRows, CeilDiv(split.rows, 2));
    } else {
      split.tiles = std::max(kMinTiles, HalfRoundedUpToEven(split.tiles));
    }
  }
  return split;
}

int64_t MatMulPanelBytes(const OpLimits& limits, const CpuKernels& kernels) {
  const int64_t num_cols = std::max(limits.hidden_size, limits.heads.q_size());
  return std::min(kWaveRows, limits.max_tokens) * PackedCols(num_cols) * kernels.act_bytes;
}

int64_t MatMulWorkerScratchBytes() { return GemmSumBytes(kGemmMaxRows, kMaxTiles); }

namespace {

// Rows [row_begin, row_begin + num_rows) of a product, packed.
void RunWave(const MatMulArgs& args, int64_t row_begin, int64_t num_rows, CpuContext& context) {
  const int64_t num_cols = args.weight.num_cols;
  const int64_t num_tiles = Bf16TiledNumTiles(args.weight.num_rows);
  const MatMulSplit split =
      SplitMatMul(num_rows, num_tiles, num_cols, context.runner.num_threads());
  const int64_t num_panels = CeilDiv(num_rows, split.rows);
  const bool small = num_rows * num_cols * args.weight.num_rows < kMinTaskMacs;
  const float* x = args.x.as<float>() + row_begin * num_cols;
  char* panels = context.Panels(context.PackedBytes(num_rows, num_cols));
  const auto pack = [&](int64_t panel, int64_t begin, int64_t end) {
    PackCall call;
    const int64_t first = panel * split.rows;
    call.x = x + first * num_cols;
    call.x_stride = num_cols;
    call.row_begin = begin - first;
    call.num_rows = end - begin;
    call.num_cols = num_cols;
    call.panel = panels + context.PackedBytes(first, num_cols);
    call.panel_rows = std::min(split.rows, num_rows - first);
    context.kernels.pack(call);
  };
  // Where a panel belongs to one task, that packs it, and saves a fork and a join.
  const bool packs_in_task = split.tiles >= num_tiles;
  if (!packs_in_task) {
    const int64_t grain = small ? num_rows : kMinTaskElements / num_cols;
    context.runner.For(num_rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end;) {
        const int64_t panel = row / split.rows;
        const int64_t row_end = std::min(end, (panel + 1) * split.rows);
        pack(panel, row, row_end);
        row = row_end;
      }
    });
  }
  const int64_t num_tasks = num_panels * CeilDiv(num_tiles, split.tiles);
  context.runner.For(num_tasks, small ? num_tasks : 1, [&](int64_t begin, int64_t end) {
    GemmCall call;
    call.num_cols = num_cols;
    call.col_end = num_cols;
    call.weight = static_cast<const uint16_t*>(args.weight.data);
    call.weight_rows = args.weight.num_rows;
    call.y_stride = args.weight.num_rows;
    call.accumulate = args.accumulate;
    call.sums = reinterpret_cast<float*>(context.WorkerScratch(MatMulWorkerScratchBytes()));
    for (int64_t task = begin; task < end; ++task) {
      // Neighbouring tasks share weights.
      const int64_t panel = task % num_panels;
      const int64_t row = panel * split.rows;
      call.num_rows = std::min(split.rows, num_rows - row);
      if (packs_in_task) pack(panel, row, row + call.num_rows);
      call.a = panels + context.PackedBytes(row, num_cols);
      call.panel_rows = call.num_rows;
      call.tile_begin = task / num_panels * split.tiles;
      call.tile_end = std::min(num_tiles, call.tile_begin + split.tiles);
      call.y =
          args.y.as<float>() + (row_begin + row) * call.y_stride + call.tile_begin * kBf16TileRows;
      context.kernels.gemm(call);
    }
  });
}

}  // namespace

void RunMatMul(const MatMulArgs& args, CpuContext& context) {
  const int64_t num_rows = args.x.dim(0);
  if (num_rows == 0) return;
  const int64_t wave_rows =
      std::min(kWaveRows, context.panel_bytes() / context.PackedBytes(1, args.weight.num_cols));
  CHECK_GT(wave_rows, 0) << "beyond Reserve()";
  for (int64_t row = 0; row < num_rows; row += wave_rows) {
    RunWave(args, row, std::min(wave_rows, num_rows - row), context);
  }
}

}  // namespace moelight
