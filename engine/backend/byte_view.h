// Raw bytes as a tensor, for Backend::Copy.
#ifndef MOELIGHT_ENGINE_BACKEND_BYTE_VIEW_H_
#define MOELIGHT_ENGINE_BACKEND_BYTE_VIEW_H_

#include <cstdint>

#include "engine/base/check.h"
#include "engine/base/tensor_view.h"

namespace moelight {

// `bytes` is a multiple of 4. Views do not know const; who copies writes only to the target.
inline TensorView ByteView(const char* data, int64_t bytes) {
  CHECK_EQ(bytes % DTypeBytes(DType::kI32), 0);
  return TensorView::Make(const_cast<char*>(data), DType::kI32, {bytes / DTypeBytes(DType::kI32)});
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_BYTE_VIEW_H_
