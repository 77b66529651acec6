// Memory of the CUDA backend: on the device, pinned in place, and pinned of its own.
//
// Threads: any. Errors: ResourceExhausted naming what was asked for; a failed call leaves nothing.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_MEMORY_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_MEMORY_H_

#include <cstdint>
#include <memory>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/backend/backend.h"

namespace moelight {

// `bytes` of zeroed device memory, aligned to 256. Waits until it is zeroed.
absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateCudaMemory(absl::string_view name,
                                                                 int64_t bytes);

// Pins [data, data + bytes) for copies and for kernels, which read it at the same addresses.
absl::StatusOr<std::unique_ptr<PinnedRange>> PinForCuda(void* data, int64_t bytes);

// Pinned host memory, which kernels read at the same addresses.
class PinnedBuffer {
 public:
  static absl::StatusOr<std::unique_ptr<PinnedBuffer>> Allocate(absl::string_view name,
                                                                int64_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  char* data() const { return data_; }

 private:
  explicit PinnedBuffer(char* data) : data_(data) {}

  char* const data_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_MEMORY_H_
