// The formats of K and V in the KV cache, and one row of each in plain code.
//
// A block holds K or V of one head for the positions of a page:
//
//   [page_tokens][head_dim] elements, then, for int8 only, [page_tokens] f32 scales
//
// int8 has a scale per position and head: value = element * scale, with the largest magnitude of
// the row at 127. A scale per page would be smaller by 3 % of the cache, but it changes when a
// later position brings a larger value: what was stored would have to be rounded again, and the
// result of a token would depend on how its prompt was cut into calls.
#ifndef MOELIGHT_ENGINE_BACKEND_KV_FORMAT_H_
#define MOELIGHT_ENGINE_BACKEND_KV_FORMAT_H_

#include <cstdint>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/base/tensor_view.h"

namespace moelight {

// "f32", "bf16", "f16" or "int8". InvalidArgument lists them.
absl::StatusOr<DType> ParseKvFormat(absl::string_view name);
absl::string_view KvFormatName(DType dtype);

// Bytes of the elements and of the scale of one position of one head.
constexpr int64_t KvScaleBytes(DType dtype) {
  return dtype == DType::kI8 ? static_cast<int64_t>(sizeof(float)) : 0;
}
constexpr int64_t KvRowBytes(DType dtype, int32_t head_dim) {
  return head_dim * DTypeBytes(dtype) + KvScaleBytes(dtype);
}

// Writes one position of one head; `scale` is only for int8. Rounds to nearest even; f16 saturates.
void StoreKvRow(const float* x, int32_t head_dim, DType dtype, void* row, float* scale);
void LoadKvRow(const void* row, const float* scale, int32_t head_dim, DType dtype, float* x);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_KV_FORMAT_H_
