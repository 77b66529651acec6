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
    case DType::kI8:
      return "i8";
  }
  return "?";
}

Float16 Float16::FromFloat(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return {static_cast<uint16_t>(sign | 0x7e00u)};
  // Half a step above the largest finite one, 65504.
  if (magnitude >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00u)};
  // Below 2^-14 the step is 2^-24, and the mantissa's carry becomes the smallest normal number.
  if (magnitude < 0x1p-14f) {
    return {static_cast<uint16_t>(sign | static_cast<int>(std::nearbyint(magnitude * 0x1p24f)))};
  }
  // The exponent's bias goes from 127 to 15, 13 bits of the mantissa are rounded away.
  const uint32_t rebased = (u & 0x7fffffffu) - (112u << 23);
  return {static_cast<uint16_t>(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13))};
}

float Float16::ToFloat() const {
  const int sign = (bits >> 15) ? -1 : 1;
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  if (exponent == 31) return mantissa ? std::nanf("") : static_cast<float>(sign) * INFINITY;
  if (exponent == 0)
    return static_cast<float>(sign) * std::ldexp(static_cast<float>(mantissa), -24);
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fff) << 13;
  return static_cast<float>(sign) * std::bit_cast<float>(magnitude + (112u << 23));
}

std::string TensorView::ShapeString() const {
  std::string out = "[";
  for (int i = 0; i < rank; ++i) absl::StrAppend(&out, i ? ", " : "", shape[i]);
  absl::StrAppend(&out, "] ", DTypeName(dtype));
  return out;
}

}  // namespace moelight
