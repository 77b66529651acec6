#include "engine/backend/cpu/matmul.h"

#include "engine/backend/formats/bf16_tiled.h"

namespace moelight {
namespace {

// Every task packs its rows again, which costs as much as about 10 columns do. With 512 that is
// nothing; with 64, the least, a tenth.
constexpr int64_t kMaxTiles = 32;
constexpr int64_t kMinTiles = 4;
// Fewer rows than this read the weights from L2 faster than it delivers them.
constexpr int64_t kMinRows = 32;
// Weights that stay in the L2 of a core (1 MiB on the smallest in use) are cheap to read again for
// every chunk of rows; others are cut by columns first, so that each part is read few times.
constexpr int64_t kCachedWeightBytes = 768 << 10;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
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

int64_t TilesPerTask(int64_t num_tiles, int64_t max_tiles, int64_t num_row_chunks,
                     int num_threads) {
  const int64_t most = std::min(num_tiles, max_tiles);
  if (num_threads == 1) return most;
  const int64_t num_blocks = CeilDiv(kTasksPerThread * num_threads, num_row_chunks);
  return std::min(most, std::max(kMinTiles, CeilDiv(num_tiles, num_blocks)));
}

void RunMatMul(const MatMulArgs& args, CpuContext& context) {
  const int64_t num_rows = args.x.dim(0);
  const int64_t num_cols = args.weight.num_cols;
  if (num_rows == 0) return;
  const int64_t num_tiles = Bf16TiledNumTiles(args.weight.num_rows);
  const MatMulSplit split =
      SplitMatMul(num_rows, num_tiles, num_cols, context.runner.num_threads());
  const int64_t num_row_chunks = CeilDiv(num_rows, split.rows);
  const int64_t num_tasks = num_row_chunks * CeilDiv(num_tiles, split.tiles);
  const bool small = num_rows * num_cols * args.weight.num_rows < kMinTaskMacs;
  context.runner.For(num_tasks, small ? num_tasks : 1, [&](int64_t begin, int64_t end) {
    GemmCall call;
    call.x_stride = num_cols;
    call.num_cols = num_cols;
    call.weight = static_cast<const uint16_t*>(args.weight.data);
    call.weight_rows = args.weight.num_rows;
    call.y_stride = args.weight.num_rows;
    call.accumulate = args.accumulate;
    call.scratch = context.WorkerScratch(kGemmScratchBytes);
    for (int64_t task = begin; task < end; ++task) {
      // Neighbouring tasks share weights.
      const int64_t row = task % num_row_chunks * split.rows;
      call.tile_begin = task / num_row_chunks * split.tiles;
      call.tile_end = std::min(num_tiles, call.tile_begin + split.tiles);
      call.num_rows = std::min(split.rows, num_rows - row);
      call.x = args.x.as<float>() + row * num_cols;
      call.y = args.y.as<float>() + row * call.y_stride + call.tile_begin * kBf16TileRows;
      context.kernels.gemm(call);
    }
  });
}

}  // namespace moelight
