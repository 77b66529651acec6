#include "engine/backend/formats/f32.h"

#include "engine/backend/formats/elements.h"

namespace moelight {
namespace {

int64_t Bytes(int64_t num_rows, int64_t num_cols) {
  return PlainRowsBytes(num_rows, num_cols, DType::kF32);
}

void Pack(const TensorView& src, int64_t row_begin, int64_t num_rows, void* dst) {
  CheckPackArgs(src, row_begin, num_rows);
  const int64_t num_elements = src.num_elements();
  float* out = static_cast<float*>(dst) + row_begin * src.dim(1);
  for (int64_t i = 0; i < num_elements; ++i) out[i] = ElementAsFloat(src, i);
}

float Get(const void* data, int64_t num_rows, int64_t num_cols, int64_t row, int64_t col) {
  DCHECK(row >= 0 && row < num_rows && col >= 0 && col < num_cols);
  return static_cast<const float*>(data)[row * num_cols + col];
}

}  // namespace

const WeightFormat kF32Format = {"f32", Bytes, Pack, Get};

}  // namespace moelight
