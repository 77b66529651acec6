// Matrix products on bf16_tiled weights, one pass over the columns. Included by isa_*.cc after a
// pairs header.
//
// Every output element has one accumulator, which takes the column pairs in ascending order. How
// rows and tiles are grouped into register tiles, and where a pass over the columns ends, changes
// nothing: an accumulator written to memory and read back has the same bits.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_GEMM_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_GEMM_INL_H_

#include <utility>

namespace moelight {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kPairElements = 2 * kTileRows;
constexpr int64_t kElementBytes = sizeof(uint16_t);
constexpr int64_t kLineBytes = kPairElements * kElementBytes;
// Activations lie in blocks of so many pairs, see kernels.h.
constexpr int64_t kBlockPairs = kPackCols / 2;

// Row stride of rows that are packed one by one, of at most kGemmPassCols columns. Not a power of
// two, so that the rows of a tile fall in different cache sets.
constexpr int64_t kPackedStride = kGemmPassCols + 16;
// How far ahead of a lone register tile its weights are asked for. Memory that delivers 25 GB/s to
// a thread 120 ns after it was asked has 3 KiB under way.
constexpr int64_t kAheadBlocks = 4;

// y[r, n] = in[r, n] + a[r] . w[n] for packed rows and consecutive weight tiles. Columns of one
// tile are consecutive; from tile to tile there is a stride.
struct PanelCall {
  const Act* a = nullptr;
  int64_t a_block_stride = kPackCols;  // elements from one block of 32 columns to the next
  int64_t num_rows = 0;
  const uint16_t* w = nullptr;
  int64_t tile_stride = 0;  // elements
  int64_t num_tiles = 0;
  int64_t last_tile_cols = kTileRows;  // of y that belong to the last tile
  int64_t num_pairs = 0;
  const uint16_t* next_w = nullptr;  // if known: first tile of what will be read next
  const float* in = nullptr;         // null: zeros
  int64_t in_stride = 0;
  int64_t in_tile_stride = kTileRows;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t y_tile_stride = kTileRows;
};

// Weights to be brought to L2 while a tile computes: from `near` on for the first blocks, from
// `far` on for the others, `step` bytes per pair and tile.
struct Ahead {
  const char* near;
  const char* far;
  int64_t num_near_blocks;
  int64_t step;
};

// kRows x kTiles accumulators in registers. Only single tiles may have fewer than 16 columns.
template <int64_t kRowStride, int kRows, int kTiles>
void Tile(const PanelCall& call, int64_t row, int64_t tile, int64_t num_cols, Ahead ahead) {
  // All loops over r are unrolled, or `sum` would live in memory.
  Vec sum[kRows][kTiles];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) {
      if (call.in == nullptr) {
        sum[r][t] = Zero();
      } else {
        const float* at = call.in + (row + r) * call.in_stride + (tile + t) * call.in_tile_stride;
        sum[r][t] = kTiles == 1 ? LoadN(at, num_cols) : Load(at);
      }
    }
  }
  const Act* block = call.a + row * kRowStride;
  const uint16_t* w = call.w + tile * call.tile_stride;
  const char* line = ahead.near;
  for (int64_t left = call.num_pairs; left > 0; left -= kBlockPairs) {
    if (ahead.num_near_blocks-- == 0) line = ahead.far;
    const Act* a = block;
    const Act* const end = a + 2 * (left < kBlockPairs ? left : kBlockPairs);
    do {
      WeightPairs weights[kTiles];
      for (int t = 0; t < kTiles; ++t) weights[t] = LoadPairs(w + t * call.tile_stride);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const ActPair act = LoadActPair(a + r * kRowStride);
        for (int t = 0; t < kTiles; ++t) sum[r][t] = DotPairs(sum[r][t], act, weights[t]);
      }
      for (int t = 0; t < kTiles; ++t) {
        _mm_prefetch(line + t * call.tile_stride * kElementBytes, _MM_HINT_T1);
      }
      line += ahead.step;
      a += 2;
      w += kPairElements;
    } while (a != end);
    block += call.a_block_stride;
  }
  float* y = call.y + row * call.y_stride + tile * call.y_tile_stride;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) {
      float* at = y + r * call.y_stride + t * call.y_tile_stride;
      if (kTiles == 1) {
        StoreN(at, sum[r][t], num_cols);
      } else {
        Store(at, sum[r][t]);
      }
    }
  }
}

using TileFunction = void (*)(const PanelCall&, int64_t, int64_t, int64_t, Ahead);

template <int64_t kRowStride, int kTiles, typename Rows>
struct TileTable;
template <int64_t kRowStride, int kTiles, int... kRow>
struct TileTable<kRowStride, kTiles, std::integer_sequence<int, kRow...>> {
  static constexpr TileFunction kByRows[] = {Tile<kRowStride, kRow + 1, kTiles>...};
};
template <int64_t kRowStride, int kTiles, int kMaxRows>
inline TileFunction FindTile(int64_t num_rows) {
  return TileTable<kRowStride, kTiles,
                   std::make_integer_sequence<int, kMaxRows>>::kByRows[num_rows - 1];
}

// What to bring while the first of `num_row_tiles` works on weights at `w`. `next` is read after
// them.
inline Ahead FirstAhead(const uint16_t* w, const uint16_t* next, int64_t num_pairs,
                        int64_t num_row_tiles) {
  if (num_row_tiles > 1) {
    // The next weights, evenly over all row tiles.
    const char* far = reinterpret_cast<const char*>(next);
    return {far, far, 0, kLineBytes / num_row_tiles};
  }
  // These weights themselves, and at their end the first of the next.
  const int64_t num_blocks = (num_pairs + kBlockPairs - 1) / kBlockPairs;
  const int64_t num_ahead = num_blocks < kAheadBlocks ? num_blocks : kAheadBlocks;
  const char* near = reinterpret_cast<const char*>(w + num_ahead * kBlockPairs * kPairElements);
  return {near, reinterpret_cast<const char*>(next), num_blocks - num_ahead, kLineBytes};
}

// Weight tiles outside, so that one group of them stays in cache for all rows. Large weights come
// from memory, whose latency the hardware's own prefetch does not hide across groups.
template <int64_t kRowStride>
inline void RunPanel(const PanelCall& call) {
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
    const uint16_t* next = w + width * call.tile_stride;
    if (tile + width >= call.num_tiles) next = call.next_w != nullptr ? call.next_w : w;
    Ahead ahead = FirstAhead(w, next, call.num_pairs, num_row_tiles);
    int64_t row = 0;
    for (int64_t i = 1; i <= num_row_tiles; ++i) {
      const int64_t row_end = i * call.num_rows / num_row_tiles;
      const int64_t num_rows = row_end - row;
      TileFunction function = FindTile<kRowStride, 1, kMaxTileRows>(num_rows);
      if (width == kWideTiles) function = FindTile<kRowStride, kWideTiles, kMaxTileRows>(num_rows);
      if (width == kNarrowTiles) {
        function = FindTile<kRowStride, kNarrowTiles, kMaxNarrowRows>(num_rows);
      }
      function(call, row, tile, num_cols, ahead);
      ahead.far += ahead.step * call.num_pairs;
      row = row_end;
    }
  }
}

// For rows packed one by one, kPackedStride apart.
inline void Panel(const PanelCall& call) { RunPanel<kPackedStride>(call); }

// Converts a row to packed activations, padded with zeros to a multiple of 16.
inline void PackRow(const float* x, int64_t n, Act* packed) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) StoreAct(packed + i, Load(x + i));
  if (i < n) StoreAct(packed + i, LoadN(x + i, n - i));
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_GEMM_INL_H_
