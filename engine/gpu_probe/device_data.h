// DeviceData: memory of a device with contents that are fit to be computed with.
//
// Threads: one. Owns a block of random numbers on the host and a stream; the buffers are the
// caller's. Errors: ResourceExhausted for memory, what the device says otherwise.
#ifndef MOELIGHT_ENGINE_GPU_PROBE_DEVICE_DATA_H_
#define MOELIGHT_ENGINE_GPU_PROBE_DEVICE_DATA_H_

#include <cstdint>
#include <memory>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/backend/backend.h"
#include "engine/base/tensor_view.h"

namespace moelight {

class DeviceData {
 public:
  explicit DeviceData(Backend& backend);

  // `bytes`, rounded up to 256, of bf16 numbers between -1/16 and 1/16. They are a matrix of any
  // weight format without being packed, and read as f32 they are finite and as small. Zeros would
  // not do: products of them draw less power, and the clocks stay higher than in real use.
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Random(absl::string_view name, int64_t bytes);

  // Copies host memory to the device, and waits for it. `bytes` is a multiple of 4.
  absl::Status Upload(const void* src, void* dst, int64_t bytes);

 private:
  Backend& backend_;
  const std::unique_ptr<Stream> stream_;
  const std::vector<BFloat16> numbers_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_GPU_PROBE_DEVICE_DATA_H_
