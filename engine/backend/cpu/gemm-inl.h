// Matrix products on bf16_tiled weights. Included by isa_*.cc after a pairs header.
//
// Every output element has one accumulator, which takes the column pairs in ascending order. How
// rows and tiles are grouped into register tiles, and where a pass over the columns ends, changes
// nothing: an accumulator written to y and read back has the same bits.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_GEMM_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_GEMM_INL_H_

#include <utility>

namespace moelight {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kPairElements = 2 * kTileRows;
constexpr int64_t kElementBytes = sizeof(uint16_t);
constexpr int64_t kLineBytes = kPairElements * kElementBytes;

// y[r, n] = or += a[r] . w[n] for packed rows and consecutive weight tiles.
struct PanelCall {
  const Act* a = nullptr;  // row stride kPackedStride
  int64_t num_rows = 0;
  const uint16_t* w = nullptr;
  int64_t tile_stride = 0;  // elements
  int64_t num_tiles = 0;
  int64_t last_tile_cols = kTileRows;  // of y that belong to the last tile
  int64_t num_pairs = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  bool accumulate = false;
};

// Weights to be brought to L2 while a tile computes: from `line` on, `step` bytes per pair.
struct Ahead {
  const char* line;
  int64_t step;
};

// kRows x kTiles accumulators in registers. Only single tiles may have fewer than 16 columns.
template <int kRows, int kTiles>
void Tile(const PanelCall& call, const Act* a, const uint16_t* w, float* y, int64_t num_cols,
          Ahead ahead) {
  // All loops over r are unrolled, or `sum` would live in memory.
  Vec sum[kRows][kTiles];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) {
      const float* at = y + r * call.y_stride + t * kTileRows;
      if (!call.accumulate) {
        sum[r][t] = Zero();
      } else {
        sum[r][t] = kTiles == 1 ? LoadN(at, num_cols) : Load(at);
      }
    }
  }
  for (int64_t pair = 0; pair < call.num_pairs; ++pair) {
    WeightPairs weights[kTiles];
    for (int t = 0; t < kTiles; ++t) weights[t] = LoadPairs(w + t * call.tile_stride);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const ActPair act = LoadActPair(a + r * kPackedStride);
      for (int t = 0; t < kTiles; ++t) sum[r][t] = DotPairs(sum[r][t], act, weights[t]);
    }
    // Narrow tiles read the weights as fast as memory delivers; there it would only cost.
    if (kTiles == kWideTiles) {
      for (int t = 0; t < kTiles; ++t) {
        _mm_prefetch(ahead.line + t * call.tile_stride * kElementBytes, _MM_HINT_T1);
      }
      ahead.line += ahead.step;
    }
    a += 2;
    w += kPairElements;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) {
      float* at = y + r * call.y_stride + t * kTileRows;
      if (kTiles == 1) {
        StoreN(at, sum[r][t], num_cols);
      } else {
        Store(at, sum[r][t]);
      }
    }
  }
}

using TileFunction = void (*)(const PanelCall&, const Act*, const uint16_t*, float*, int64_t,
                              Ahead);

template <int kTiles, typename Rows>
struct TileTable;
template <int kTiles, int... kRow>
struct TileTable<kTiles, std::integer_sequence<int, kRow...>> {
  static constexpr TileFunction kByRows[] = {Tile<kRow + 1, kTiles>...};
};
template <int kTiles, int kMaxRows>
inline TileFunction FindTile(int64_t num_rows) {
  return TileTable<kTiles, std::make_integer_sequence<int, kMaxRows>>::kByRows[num_rows - 1];
}

// Weight tiles outside, so that one group of them stays in cache for all rows. Each of the row
// tiles brings its share of the next group, evenly over its pairs: large weights come from memory,
// whose latency the hardware's own prefetch does not hide across groups.
inline void Panel(const PanelCall& call) {
  // Rows are split evenly: 13 are 7 + 6, not 12 + 1.
  const int64_t num_row_tiles = (call.num_rows + kMaxTileRows - 1) / kMaxTileRows;
  const int64_t num_full_tiles = call.num_tiles - (call.last_tile_cols < kTileRows ? 1 : 0);
  const bool narrow = call.num_rows <= kMaxNarrowRows;
  int64_t width = 0;
  for (int64_t tile = 0; tile < call.num_tiles; tile += width) {
    width = narrow ? kNarrowTiles : kWideTiles;
    if (tile + width > num_full_tiles) width = kWideTiles;
    if (tile + width > num_full_tiles) width = 1;
    const int64_t num_cols = tile + 1 == call.num_tiles ? call.last_tile_cols : kTileRows;
    const uint16_t* w = call.w + tile * call.tile_stride;
    const bool last = tile + width >= call.num_tiles;
    Ahead ahead = {reinterpret_cast<const char*>(last ? w : w + width * call.tile_stride),
                   last ? 0 : kLineBytes / num_row_tiles};
    int64_t row = 0;
    for (int64_t i = 1; i <= num_row_tiles; ++i) {
      const int64_t row_end = i * call.num_rows / num_row_tiles;
      const int64_t num_rows = row_end - row;
      TileFunction function = FindTile<1, kMaxTileRows>(num_rows);
      if (width == kWideTiles) function = FindTile<kWideTiles, kMaxTileRows>(num_rows);
      if (width == kNarrowTiles) function = FindTile<kNarrowTiles, kMaxNarrowRows>(num_rows);
      function(call, call.a + row * kPackedStride, w,
               call.y + row * call.y_stride + tile * kTileRows, num_cols, ahead);
      ahead.line += ahead.step * call.num_pairs;
      row = row_end;
    }
  }
}

// Converts a row to packed activations, padded with zeros to a multiple of 16.
inline void PackRow(const float* x, int64_t n, Act* packed) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) StoreAct(packed + i, Load(x + i));
  if (i < n) StoreAct(packed + i, LoadN(x + i, n - i));
}

void Gemm(const GemmCall& call) {
  Act* packed = static_cast<Act*>(call.scratch);
  PanelCall panel;
  panel.a = packed;
  panel.num_rows = call.num_rows;
  panel.tile_stride = (call.num_cols + 1) / 2 * kPairElements;
  panel.num_tiles = call.tile_end - call.tile_begin;
  if (call.tile_end * kTileRows > call.weight_rows) {
    panel.last_tile_cols = call.weight_rows % kTileRows;
  }
  panel.y = call.y;
  panel.y_stride = call.y_stride;
  const uint16_t* w = call.weight + call.tile_begin * panel.tile_stride;
  for (int64_t col = 0; col < call.num_cols; col += kGemmPassCols) {
    const int64_t num_cols =
        call.num_cols - col < kGemmPassCols ? call.num_cols - col : kGemmPassCols;
    for (int64_t r = 0; r < call.num_rows; ++r) {
      const int64_t row = call.row_ids != nullptr ? call.row_ids[r] : r;
      PackRow(call.x + row * call.x_stride + col, num_cols, packed + r * kPackedStride);
    }
    panel.w = w + col / 2 * kPairElements;
    panel.num_pairs = (num_cols + 1) / 2;
    panel.accumulate = call.accumulate || col > 0;
    Panel(panel);
  }
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_GEMM_INL_H_
