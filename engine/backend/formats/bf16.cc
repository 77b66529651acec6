#include "engine/backend/formats/bf16.h"

#include <cstring>

#include "engine/backend/formats/elements.h"

namespace moelight {
namespace {

int64_t Bytes(int64_t num_rows, int64_t num_cols) {
  return PlainRowsBytes(num_rows, num_cols, DType::kBF16);
}

void Pack(const TensorView& src, int64_t row_begin, int64_t num_rows, void* dst) {
  CheckPackArgs(src, row_begin, num_rows);
  BFloat16* out = static_cast<BFloat16*>(dst) + row_begin * src.dim(1);
  if (src.dtype == DType::kBF16) {
    std::memcpy(out, src.data, src.bytes());
    return;
  }
  const int64_t num_elements = src.num_elements();
  for (int64_t i = 0; i < num_elements; ++i) out[i] = BFloat16::FromFloat(ElementAsFloat(src, i));
}

float Get(const void* data, int64_t num_rows, int64_t num_cols, int64_t row, int64_t col) {
  DCHECK(row >= 0 && row < num_rows && col >= 0 && col < num_cols);
  return static_cast<const BFloat16*>(data)[row * num_cols + col].ToFloat();
}

}  // namespace

const WeightFormat kBf16Format = {"bf16", Bytes, Pack, Get};

}  // namespace moelight
