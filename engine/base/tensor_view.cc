#include "engine/base/tensor_view.h"

#include <cmath>

#include <absl/strings/str_cat.h>

namespace moelight {

absl::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kI32:
      return "i32";
  }
  return "?";
}

float Float16::ToFloat() const {
  const int sign = (bits >> 15) ? -1 : 1;
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  if (exponent == 31) return mantissa ? std::nanf("") : static_cast<float>(sign) * INFINITY;
  if (exponent == 0)
    return static_cast<float>(sign) * std::ldexp(static_cast<float>(mantissa), -24);
  return static_cast<float>(sign) * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

std::string TensorView::ShapeString() const {
  std::string out = "[";
  for (int i = 0; i < rank; ++i) absl::StrAppend(&out, i ? ", " : "", shape[i]);
  absl::StrAppend(&out, "] ", DTypeName(dtype));
  return out;
}

}  // namespace moelight
