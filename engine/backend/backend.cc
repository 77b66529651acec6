#include "engine/backend/backend.h"

#include <cstdlib>
#include <cstring>

#include <absl/strings/str_cat.h>

namespace moelight {
namespace {

constexpr int64_t kDeviceAlignment = 256;

// Device memory of a backend of the host.
class HostBuffer final : public DeviceBuffer {
 public:
  HostBuffer(char* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  ~HostBuffer() override { std::free(data_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  char* data() const override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  char* const data_;
  const int64_t bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceBuffer>> Backend::AllocateDevice(absl::string_view name,
                                                                      int64_t bytes) {
  const int64_t rounded = (bytes + kDeviceAlignment - 1) / kDeviceAlignment * kDeviceAlignment;
  void* data = std::aligned_alloc(kDeviceAlignment, rounded);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot get ", bytes, " bytes for ", name));
  }
  std::memset(data, 0, rounded);
  return std::make_unique<HostBuffer>(static_cast<char*>(data), bytes);
}

absl::StatusOr<std::unique_ptr<PinnedRange>> Backend::PinHost(void*, int64_t) {
  return std::make_unique<PinnedRange>();
}

}  // namespace moelight
