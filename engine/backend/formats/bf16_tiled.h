// "bf16_tiled": bf16 in tiles of 16 rows, the two columns of a pair side by side:
//
//   [ceil(num_rows / 16)][ceil(num_cols / 2)][16 rows][2 columns]
//
// One 64-byte line holds a column pair of 16 output features. That is the operand of the
// AVX512-BF16 and AMX dot products, and a shift or a mask away from two fp32 vectors, so that one
// layout serves every instruction set. Rows and columns are padded with zeros.
#ifndef MOELIGHT_ENGINE_BACKEND_FORMATS_BF16_TILED_H_
#define MOELIGHT_ENGINE_BACKEND_FORMATS_BF16_TILED_H_

#include "engine/backend/weight_format.h"

namespace moelight {

inline constexpr int64_t kBf16TileRows = 16;

constexpr int64_t Bf16TiledNumTiles(int64_t num_rows) {
  return (num_rows + kBf16TileRows - 1) / kBf16TileRows;
}
constexpr int64_t Bf16TiledNumPairs(int64_t num_cols) { return (num_cols + 1) / 2; }

extern const WeightFormat kBf16TiledFormat;

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_FORMATS_BF16_TILED_H_
