// CpuKernels::gemm on AMX tiles. Included by isa_amx_bf16.cc after gemm-inl.h;
// packed_gemm-inl.h is the alternative.
//
// A product of tiles takes 16 rows of one block of 32 packed columns and 16 lines of bf16_tiled,
// each 1 KiB in one piece. Within a block it sums even and odd columns apart, unlike the dot
// products of AVX512-BF16; therefore all sums of this variant are made here, whatever the number of
// rows, and blocks begin at multiples of 32 columns.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_AMX_GEMM_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_AMX_GEMM_INL_H_

namespace moelight {
namespace {

constexpr int64_t kAmxRows = 16;         // of a tile
constexpr int64_t kAmxRowBytes = 64;     // 32 columns of bf16, or 16 sums
constexpr int64_t kAmxTileBytes = 1024;  // also of a block of weights
constexpr int64_t kAmxBlockRows = 2 * kAmxRows;
constexpr int64_t kAmxBlockCols = 2;  // weight tiles
// Columns per pass where rows need several blocks: 32 rows and two weight tiles take 16 KiB each of
// 48 KiB of L1, and the sums, which come and go, 8 KiB. Longer passes push the weights out, which
// every block of rows uses again.
constexpr int64_t kAmxPassCols = 256;
// With one block of rows every weight is used once. Passes are as long as the packed rows stay in
// L2 beside the weights that stream through it.
constexpr int64_t kAmxLongPassBytes = 256 << 10;

// Palette 1: eight tiles of up to 16 rows of 64 bytes. 0 to 3 are sums, 4 and 5 rows, 6 and 7
// weights; 2, 3 and 5 belong to the second 16 rows.
struct alignas(64) AmxConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

// The intrinsics do not tell the compiler which memory they read: what was stored there must be
// stored before.
inline void FinishStores(const void* to) { asm volatile("" : : "r"(to) : "memory"); }

// Configures for `num_rows` rows of one block, which are at most 32.
inline void ConfigureTiles(int64_t num_rows) {
  AmxConfig config = {};
  config.palette = 1;
  const int64_t first = num_rows < kAmxRows ? num_rows : kAmxRows;
  const int64_t second = num_rows > kAmxRows ? num_rows - kAmxRows : kAmxRows;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = kAmxRowBytes;
    config.rows[tile] = kAmxRows;
  }
  for (const int tile : {0, 1, 4}) config.rows[tile] = static_cast<uint8_t>(first);
  for (const int tile : {2, 3, 5}) config.rows[tile] = static_cast<uint8_t>(second);
  FinishStores(&config);
  _tile_loadconfig(&config);
}

// The intrinsics take literal tile numbers.
template <int kTile>
inline void ZeroTile() {
  if constexpr (kTile == 0) _tile_zero(0);
  if constexpr (kTile == 1) _tile_zero(1);
  if constexpr (kTile == 2) _tile_zero(2);
  if constexpr (kTile == 3) _tile_zero(3);
}
template <int kTile>
inline void LoadTile(const float* from, int64_t stride_bytes) {
  if constexpr (kTile == 0) _tile_loadd(0, from, stride_bytes);
  if constexpr (kTile == 1) _tile_loadd(1, from, stride_bytes);
  if constexpr (kTile == 2) _tile_loadd(2, from, stride_bytes);
  if constexpr (kTile == 3) _tile_loadd(3, from, stride_bytes);
}
template <int kTile>
inline void StoreTile(float* to, int64_t stride_bytes) {
  if constexpr (kTile == 0) _tile_stored(0, to, stride_bytes);
  if constexpr (kTile == 1) _tile_stored(1, to, stride_bytes);
  if constexpr (kTile == 2) _tile_stored(2, to, stride_bytes);
  if constexpr (kTile == 3) _tile_stored(3, to, stride_bytes);
}

// Where sums come from or go to.
struct AmxSums {
  float* data = nullptr;  // null: they begin at zero
  int64_t stride = 0;     // elements
  int64_t tile_stride = 0;
  int64_t num_rows = 0;  // that there are: tiles may reach beyond
  int64_t num_cols = 0;
};

// One pass over columns for some rows and weight tiles.
struct AmxPass {
  const char* a = nullptr;
  int64_t a_block_bytes = 0;
  const char* w = nullptr;
  int64_t tile_bytes = 0;
  int64_t num_blocks = 0;  // without the tail
  // The last block of each weight tile of a group where less than 16 pairs are left, filled up with
  // zeros; null: none is left.
  const char* tail = nullptr;
  AmxSums in, out;
};

// The part of a tile of sums that exists.
struct AmxPart {
  float* data;
  int64_t num_rows, num_cols;
  bool whole() const { return num_rows == kAmxRows && num_cols == kTileRows; }
};
inline AmxPart PartOf(const AmxSums& sums, int64_t row, int64_t tile) {
  const int64_t rows = sums.num_rows - row;
  const int64_t cols = sums.num_cols - tile * kTileRows;
  return {sums.data + row * sums.stride + tile * sums.tile_stride,
          rows < kAmxRows ? rows : kAmxRows, cols < kTileRows ? cols : kTileRows};
}

template <int kTile>
inline void LoadSums(const AmxSums& sums, int64_t row, int64_t tile) {
  if (sums.data == nullptr) {
    ZeroTile<kTile>();
    return;
  }
  const AmxPart part = PartOf(sums, row, tile);
  if (part.whole()) {
    LoadTile<kTile>(part.data, sums.stride * static_cast<int64_t>(sizeof(float)));
    return;
  }
  alignas(64) float whole[kAmxRows * kTileRows];
  for (int64_t r = 0; r < kAmxRows; ++r) {
    Store(whole + r * kTileRows,
          r < part.num_rows ? LoadN(part.data + r * sums.stride, part.num_cols) : Zero());
  }
  FinishStores(whole);
  LoadTile<kTile>(whole, kAmxRowBytes);
}

template <int kTile>
inline void StoreSums(const AmxSums& sums, int64_t row, int64_t tile) {
  const AmxPart part = PartOf(sums, row, tile);
  if (part.whole()) {
    StoreTile<kTile>(part.data, sums.stride * static_cast<int64_t>(sizeof(float)));
    return;
  }
  alignas(64) float whole[kAmxRows * kTileRows];
  StoreTile<kTile>(whole, kAmxRowBytes);
  for (int64_t r = 0; r < part.num_rows; ++r) {
    StoreN(part.data + r * sums.stride, Load(whole + r * kTileRows), part.num_cols);
  }
}

// One block of columns: sums += rows times weights.
template <int kRowTiles, int kColTiles>
inline void MultiplyBlock(const char* a, const char* w0, const char* w1) {
  _tile_loadd(4, a, kAmxRowBytes);
  _tile_loadd(6, w0, kAmxRowBytes);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (kColTiles == 2) {
    _tile_loadd(7, w1, kAmxRowBytes);
    _tile_dpbf16ps(1, 4, 7);
  }
  if constexpr (kRowTiles == 2) {
    _tile_loadd(5, a + kAmxTileBytes, kAmxRowBytes);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (kColTiles == 2) _tile_dpbf16ps(3, 5, 7);
  }
}

// What to bring to L2 while tiles compute: weights, `step` bytes per block of columns and weight
// tile, and rows of the next pass, of which the first weight tiles would else wait for L3.
struct AmxAhead {
  Ahead weights;
  const char* rows;
  int64_t row_step;
};

// kRowTiles x kColTiles tiles of sums.
template <int kRowTiles, int kColTiles>
void AmxTiles(const AmxPass& pass, int64_t row, int64_t tile, const AmxAhead& ahead) {
  LoadSums<0>(pass.in, row, tile);
  if constexpr (kColTiles == 2) LoadSums<1>(pass.in, row, tile + 1);
  if constexpr (kRowTiles == 2) LoadSums<2>(pass.in, row + kAmxRows, tile);
  if constexpr (kRowTiles * kColTiles == 4) LoadSums<3>(pass.in, row + kAmxRows, tile + 1);
  const char* a = pass.a + row * kAmxRowBytes;
  const char* w0 = pass.w + tile * pass.tile_bytes;
  const char* w1 = w0 + (kColTiles - 1) * pass.tile_bytes;
  const int64_t to_second = (kColTiles - 1) * pass.tile_bytes;
  const char* line = ahead.weights.near;
  const char* row_line = ahead.rows;
  for (int64_t block = 0; block < pass.num_blocks; ++block) {
    if (block == ahead.weights.num_near_blocks) line = ahead.weights.far;
    const char* const end = line + ahead.weights.step;
    for (const char* p = line; p < end; p += kLineBytes) {
      _mm_prefetch(p, _MM_HINT_T1);
      _mm_prefetch(p + to_second, _MM_HINT_T1);
    }
    line = end;
    const char* const row_end = row_line + ahead.row_step;
    for (; row_line < row_end; row_line += kLineBytes) _mm_prefetch(row_line, _MM_HINT_T1);
    MultiplyBlock<kRowTiles, kColTiles>(a, w0, w1);
    a += pass.a_block_bytes;
    w0 += kAmxTileBytes;
    w1 += kAmxTileBytes;
  }
  if (pass.tail != nullptr) {
    MultiplyBlock<kRowTiles, kColTiles>(a, pass.tail, pass.tail + kAmxTileBytes);
  }
  StoreSums<0>(pass.out, row, tile);
  if constexpr (kColTiles == 2) StoreSums<1>(pass.out, row, tile + 1);
  if constexpr (kRowTiles == 2) StoreSums<2>(pass.out, row + kAmxRows, tile);
  if constexpr (kRowTiles * kColTiles == 4) StoreSums<3>(pass.out, row + kAmxRows, tile + 1);
}

// Copies what is left of `num_tiles` weight tiles at `w`, `bytes` of each.
inline void FillTail(const char* w, int64_t tile_bytes, int64_t num_tiles, int64_t bytes,
                     char* tail) {
  for (int64_t t = 0; t < num_tiles; ++t) {
    for (int64_t i = 0; i < bytes; i += kLineBytes) {
      _mm512_store_si512(tail + t * kAmxTileBytes + i, _mm512_loadu_si512(w + t * tile_bytes + i));
    }
  }
  FinishStores(tail);
}

// Weight tiles outside, two by two, so that they stay in L1 for all rows.
inline void RunAmxPass(AmxPass pass, int64_t num_rows, int64_t num_tiles, int64_t tail_bytes,
                       const char* next_w, const char* next_a) {
  alignas(64) char tail[kAmxBlockCols * kAmxTileBytes] = {};
  if (tail_bytes > 0) pass.tail = tail;
  const int64_t num_row_blocks = (num_rows + kAmxBlockRows - 1) / kAmxBlockRows;
  AmxAhead ahead = {{}, pass.a, 0};
  if (next_a != nullptr && num_row_blocks > 1) {
    // The next pass of the panel, evenly over all blocks, in whole lines.
    const int64_t num_groups = (num_tiles + kAmxBlockCols - 1) / kAmxBlockCols;
    const int64_t bytes = num_rows * kAmxRowBytes / (num_groups * num_row_blocks);
    ahead.rows = next_a;
    ahead.row_step = (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
  }
  for (int64_t tile = 0; tile < num_tiles; tile += kAmxBlockCols) {
    const int64_t width = num_tiles - tile < kAmxBlockCols ? num_tiles - tile : kAmxBlockCols;
    const char* w = pass.w + tile * pass.tile_bytes;
    const char* next = tile + width < num_tiles ? w + width * pass.tile_bytes : next_w;
    if (tail_bytes > 0) {
      FillTail(w + pass.num_blocks * kAmxTileBytes, pass.tile_bytes, width, tail_bytes, tail);
    }
    // One block of rows asks for its own weights some way ahead, several for the next weights.
    const int64_t num_ahead = pass.num_blocks < kAheadBlocks ? pass.num_blocks : kAheadBlocks;
    ahead.weights = {w + num_ahead * kAmxTileBytes, next, pass.num_blocks - num_ahead,
                     kAmxTileBytes};
    if (num_row_blocks > 1) ahead.weights = {next, next, 0, kAmxTileBytes / num_row_blocks};
    for (int64_t row = 0; row < num_rows; row += kAmxBlockRows) {
      if (num_rows - row > kAmxRows) {
        (width == 2 ? AmxTiles<2, 2> : AmxTiles<2, 1>)(pass, row, tile, ahead);
      } else {
        (width == 2 ? AmxTiles<1, 2> : AmxTiles<1, 1>)(pass, row, tile, ahead);
      }
      ahead.weights.far += ahead.weights.step * pass.num_blocks;
      ahead.rows += ahead.row_step * pass.num_blocks;
    }
  }
}

inline int64_t AmxPassCols(const GemmCall& call) {
  if (call.num_rows > kAmxBlockRows) return kAmxPassCols;
  const int64_t cols = kAmxLongPassBytes / (call.num_rows * kAmxRowBytes) * kPackCols;
  return cols < call.num_cols ? cols : PackedCols(call.num_cols);
}

void Gemm(const GemmCall& call) {
  const int64_t num_tiles = call.tile_end - call.tile_begin;
  const int64_t num_cols_y =
      (call.tile_end * kTileRows < call.weight_rows ? call.tile_end * kTileRows
                                                    : call.weight_rows) -
      call.tile_begin * kTileRows;
  const int64_t sum_rows = GemmSumRows(call.num_rows);
  const AmxSums sums = {call.sums, kTileRows, sum_rows * kTileRows, sum_rows,
                        num_tiles * kTileRows};
  const AmxSums y = {call.y, call.y_stride, kTileRows, call.num_rows, num_cols_y};
  // Of more than one block of rows all are whole tiles, and what they make of rows that do not
  // exist is dropped: to configure for the last rows of every group of tiles would cost more.
  ConfigureTiles(call.num_rows < kAmxBlockRows ? call.num_rows : kAmxBlockRows);
  AmxPass pass;
  pass.a_block_bytes = call.panel_rows * kAmxRowBytes;
  pass.tile_bytes = (call.num_cols + 1) / 2 * kLineBytes;
  const char* w = reinterpret_cast<const char*>(call.weight) + call.tile_begin * pass.tile_bytes;
  const int64_t pass_cols = AmxPassCols(call);
  for (int64_t col = call.col_begin; col < call.col_end; col += pass_cols) {
    const bool last = col + pass_cols >= call.num_cols;
    const int64_t num_cols = last ? call.num_cols - col : pass_cols;
    pass.a = static_cast<const char*>(call.a) + col / kPackCols * pass.a_block_bytes;
    pass.w = w + col / 2 * kLineBytes;
    pass.num_blocks = num_cols / kPackCols;
    if (col > 0) {
      pass.in = sums;
    } else if (call.accumulate) {
      pass.in = y;
    }
    pass.out = last && call.y != nullptr ? y : sums;
    const int64_t tail_pairs = (num_cols + 1) / 2 - pass.num_blocks * kBlockPairs;
    const char* next_w = last ? pass.w : pass.w + pass_cols / 2 * kLineBytes;
    const char* next_a = last ? nullptr : pass.a + pass_cols / kPackCols * pass.a_block_bytes;
    RunAmxPass(pass, call.num_rows, num_tiles, tail_pairs * kLineBytes, next_w, next_a);
  }
  _tile_release();
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_AMX_GEMM_INL_H_
