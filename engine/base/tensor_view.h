// DType, BFloat16, Float16 and TensorView: the vocabulary of every op.
//
// A TensorView borrows memory; it never owns or allocates. It is passed by value.
#ifndef MOELIGHT_ENGINE_BASE_TENSOR_VIEW_H_
#define MOELIGHT_ENGINE_BASE_TENSOR_VIEW_H_

#include <array>
#include <bit>
#include <cstdint>
#include <string>

#include <absl/strings/string_view.h>

#include "engine/base/check.h"

namespace moelight {

enum class DType : uint8_t { kF32, kBF16, kF16, kI32, kI8 };

constexpr int64_t DTypeBytes(DType dtype) {
  if (dtype == DType::kI8) return 1;
  return dtype == DType::kF32 || dtype == DType::kI32 ? 4 : 2;
}
absl::string_view DTypeName(DType dtype);  // "f32", "bf16", "f16", "i32", "i8"

// Brain float: the upper half of an IEEE single. Conversion rounds to nearest even, NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;
  static BFloat16 FromFloat(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
    return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
  }
  float ToFloat() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// IEEE half, storage only. Conversion rounds to nearest even; what is too large becomes infinite.
struct Float16 {
  uint16_t bits = 0;
  static Float16 FromFloat(float value);
  float ToFloat() const;
};

// A dense row-major view of up to three dimensions.
struct TensorView {
  static constexpr int kMaxRank = 3;

  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape = {0, 0, 0};

  static TensorView Make(void* data, DType dtype, std::initializer_list<int64_t> dims) {
    TensorView view{data, dtype, static_cast<int>(dims.size()), {0, 0, 0}};
    CHECK_LE(view.rank, kMaxRank);
    int i = 0;
    for (int64_t dim : dims) view.shape[i++] = dim;
    return view;
  }

  bool defined() const { return data != nullptr; }
  int64_t dim(int i) const { return shape[i]; }
  int64_t num_elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  int64_t bytes() const { return num_elements() * DTypeBytes(dtype); }

  template <typename T>
  T* as() const {
    DCHECK(sizeof(T) == static_cast<size_t>(DTypeBytes(dtype)));
    return static_cast<T*>(data);
  }
  // Rows [begin, end) along the first dimension.
  TensorView Rows(int64_t begin, int64_t end) const {
    DCHECK(begin >= 0 && begin <= end && end <= shape[0]);
    TensorView view = *this;
    const int64_t row_bytes = shape[0] == 0 ? 0 : bytes() / shape[0];
    view.data = static_cast<char*>(data) + begin * row_bytes;
    view.shape[0] = end - begin;
    return view;
  }
  std::string ShapeString() const;  // "[3, 64] bf16"
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_TENSOR_VIEW_H_
