#include "engine/backend/kv_format.h"

#include <algorithm>
#include <cmath>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

namespace moelight {
namespace {

struct KvFormat {
  absl::string_view name;
  DType dtype;
};

// The names are also the choices of the config key engine.kv_format.
constexpr KvFormat kKvFormats[] = {
    {"f32", DType::kF32}, {"bf16", DType::kBF16}, {"f16", DType::kF16}, {"int8", DType::kI8}};

constexpr float kMaxFloat16 = 65504;
constexpr float kMaxInt8 = 127;

// The scale, and the elements to it.
void StoreInt8Row(const float* x, int32_t head_dim, int8_t* row, float* scale) {
  float largest = 0;
  for (int32_t i = 0; i < head_dim; ++i) largest = std::max(largest, std::fabs(x[i]));
  *scale = largest / kMaxInt8;
  const float inverse = largest > 0 ? kMaxInt8 / largest : 0.0f;
  for (int32_t i = 0; i < head_dim; ++i) {
    row[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  }
}

}  // namespace

absl::StatusOr<DType> ParseKvFormat(absl::string_view name) {
  for (const KvFormat& format : kKvFormats) {
    if (format.name == name) return format.dtype;
  }
  const auto append_name = [](std::string* out, const KvFormat& format) {
    absl::StrAppend(out, format.name);
  };
  return absl::InvalidArgumentError(absl::StrCat("KV format \"", name, "\" is unknown; there are ",
                                                 absl::StrJoin(kKvFormats, ", ", append_name)));
}

absl::string_view KvFormatName(DType dtype) {
  for (const KvFormat& format : kKvFormats) {
    if (format.dtype == dtype) return format.name;
  }
  CHECK(false) << DTypeName(dtype) << " is no format of the KV cache";
  return "";
}

void StoreKvRow(const float* x, int32_t head_dim, DType dtype, void* row, float* scale) {
  if (dtype == DType::kI8) {
    StoreInt8Row(x, head_dim, static_cast<int8_t*>(row), scale);
    return;
  }
  for (int32_t i = 0; i < head_dim; ++i) {
    if (dtype == DType::kF32) {
      static_cast<float*>(row)[i] = x[i];
    } else if (dtype == DType::kBF16) {
      static_cast<BFloat16*>(row)[i] = BFloat16::FromFloat(x[i]);
    } else {
      static_cast<Float16*>(row)[i] =
          Float16::FromFloat(std::clamp(x[i], -kMaxFloat16, kMaxFloat16));
    }
  }
}

void LoadKvRow(const void* row, const float* scale, int32_t head_dim, DType dtype, float* x) {
  for (int32_t i = 0; i < head_dim; ++i) {
    if (dtype == DType::kF32) {
      x[i] = static_cast<const float*>(row)[i];
    } else if (dtype == DType::kBF16) {
      x[i] = static_cast<const BFloat16*>(row)[i].ToFloat();
    } else if (dtype == DType::kF16) {
      x[i] = static_cast<const Float16*>(row)[i].ToFloat();
    } else {
      x[i] = static_cast<float>(static_cast<const int8_t*>(row)[i]) * *scale;
    }
  }
}

}  // namespace moelight
