// What formats share: sizes of plain rows, and reading checkpoint tensors element by element.
#ifndef MOELIGHT_ENGINE_BACKEND_FORMATS_ELEMENTS_H_
#define MOELIGHT_ENGINE_BACKEND_FORMATS_ELEMENTS_H_

#include <cstdint>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/tensor_view.h"

namespace moelight {

inline void CheckPackArgs(const TensorView& src, int64_t row_begin, int64_t num_rows) {
  CHECK_EQ(src.rank, 2);
  CHECK(src.dtype != DType::kI32) << "weights are f32, bf16 or f16";
  CHECK(row_begin >= 0 && row_begin + src.dim(0) <= num_rows)
      << "rows [" << row_begin << ", " << row_begin + src.dim(0) << ") of " << num_rows;
}

// Bytes of [num_rows, num_cols] plain rows, a multiple of 64 as WeightFormat::bytes promises.
inline int64_t PlainRowsBytes(int64_t num_rows, int64_t num_cols, DType dtype) {
  constexpr int64_t kAlignment = 64;
  const int64_t bytes = num_rows * num_cols * DTypeBytes(dtype);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Element `i` of a f32, bf16 or f16 tensor. Copies bytes, because a tensor inside a mapped
// checkpoint file need not be aligned.
inline float ElementAsFloat(const TensorView& view, int64_t i) {
  const char* at = static_cast<const char*>(view.data) + i * DTypeBytes(view.dtype);
  if (view.dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return view.dtype == DType::kBF16 ? BFloat16{bits}.ToFloat() : Float16{bits}.ToFloat();
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_FORMATS_ELEMENTS_H_
