#include "engine/backend/cuda/cuda_memory.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/backend/cuda/cuda_check.h"

namespace moelight {
namespace {

constexpr int64_t kDeviceAlignment = 256;  // that of cudaMalloc, and of Backend::AllocateDevice

class CudaBuffer final : public DeviceBuffer {
 public:
  CudaBuffer(char* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  // Waits for the device, so nothing still uses the memory.
  ~CudaBuffer() override { (void)cudaFree(data_); }
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;

  char* data() const override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  char* const data_;
  const int64_t bytes_;
};

class CudaPinnedRange final : public PinnedRange {
 public:
  explicit CudaPinnedRange(void* data) : data_(data) {}
  ~CudaPinnedRange() override { (void)cudaHostUnregister(data_); }
  CudaPinnedRange(const CudaPinnedRange&) = delete;
  CudaPinnedRange& operator=(const CudaPinnedRange&) = delete;

 private:
  void* const data_;
};

// Also takes the error back from the runtime, or the next check of a launch would find it.
absl::Status Exhausted(cudaError_t error, absl::string_view what, int64_t bytes,
                       absl::string_view advice) {
  (void)cudaGetLastError();
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot ", what, ", ", bytes, " bytes (", CudaErrorText(error), "); ", advice));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateCudaMemory(absl::string_view name,
                                                                 int64_t bytes) {
  const int64_t rounded = std::max(
      kDeviceAlignment, (bytes + kDeviceAlignment - 1) / kDeviceAlignment * kDeviceAlignment);
  void* data = nullptr;
  if (const cudaError_t error = cudaMalloc(&data, rounded); error != cudaSuccess) {
    return Exhausted(error, absl::StrCat("get device memory for ", name), bytes,
                     "lower engine.gpu_memory");
  }
  auto buffer = std::make_unique<CudaBuffer>(static_cast<char*>(data), bytes);
  // Lanes do not wait for the default stream, so this does.
  cudaError_t error = cudaMemsetAsync(data, 0, rounded, nullptr);
  if (error == cudaSuccess) error = cudaStreamSynchronize(nullptr);
  if (error != cudaSuccess) return CudaStatus(error, absl::StrCat("zero the memory of ", name));
  return buffer;
}

absl::StatusOr<std::unique_ptr<PinnedRange>> PinForCuda(void* data, int64_t bytes) {
  if (bytes == 0) return std::make_unique<PinnedRange>();
  const cudaError_t error =
      cudaHostRegister(data, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  if (error != cudaSuccess) {
    return Exhausted(error, "pin host memory", bytes,
                     "lower engine.host_memory or raise the memlock limit (ulimit -l)");
  }
  return std::make_unique<CudaPinnedRange>(data);
}

absl::StatusOr<std::unique_ptr<PinnedBuffer>> PinnedBuffer::Allocate(absl::string_view name,
                                                                     int64_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, std::max(bytes, kDeviceAlignment),
                                          cudaHostAllocPortable | cudaHostAllocMapped);
  if (error != cudaSuccess) {
    return Exhausted(error, absl::StrCat("get pinned host memory for ", name), bytes,
                     "lower engine.host_memory or raise the memlock limit (ulimit -l)");
  }
  return std::unique_ptr<PinnedBuffer>(new PinnedBuffer(static_cast<char*>(data)));
}

PinnedBuffer::~PinnedBuffer() { (void)cudaFreeHost(data_); }

}  // namespace moelight
