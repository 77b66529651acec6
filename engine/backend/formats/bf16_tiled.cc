#include "engine/backend/formats/bf16_tiled.h"

#include "engine/backend/formats/elements.h"

namespace moelight {
namespace {

constexpr int64_t kPairElements = 2 * kBf16TileRows;

// Where (row, col) lies, in elements.
int64_t Offset(int64_t num_cols, int64_t row, int64_t col) {
  const int64_t tile_elements = Bf16TiledNumPairs(num_cols) * kPairElements;
  return row / kBf16TileRows * tile_elements + col / 2 * kPairElements + row % kBf16TileRows * 2 +
         col % 2;
}

int64_t Bytes(int64_t num_rows, int64_t num_cols) {
  return Bf16TiledNumTiles(num_rows) * Bf16TiledNumPairs(num_cols) * kPairElements *
         static_cast<int64_t>(sizeof(BFloat16));
}

void Pack(const TensorView& src, int64_t row_begin, int64_t num_rows, void* dst) {
  CheckPackArgs(src, row_begin, num_rows);
  const int64_t num_cols = src.dim(1);
  BFloat16* out = static_cast<BFloat16*>(dst);
  for (int64_t row = 0; row < src.dim(0); ++row) {
    BFloat16* out_row = out + Offset(num_cols, row_begin + row, 0);
    for (int64_t col = 0; col < num_cols; ++col) {
      out_row[col / 2 * kPairElements + col % 2] =
          BFloat16::FromFloat(ElementAsFloat(src, row * num_cols + col));
    }
  }
}

float Get(const void* data, int64_t num_rows, int64_t num_cols, int64_t row, int64_t col) {
  DCHECK(row >= 0 && row < num_rows && col >= 0 && col < num_cols);
  return static_cast<const BFloat16*>(data)[Offset(num_cols, row, col)].ToFloat();
}

}  // namespace

const WeightFormat kBf16TiledFormat = {"bf16_tiled", Bytes, Pack, Get};

}  // namespace moelight
