#include "engine/gpu_probe/device_data.h"

#include <algorithm>
#include <random>

#include "engine/backend/byte_view.h"
#include "engine/base/status_macros.h"
#include "engine/memory/arena.h"

namespace moelight {
namespace {

// Long enough that rows of no matrix repeat within a tile of a kernel.
constexpr int64_t kBlockBytes = int64_t{16} << 20;

std::vector<BFloat16> RandomNumbers() {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(-1.0f / 16, 1.0f / 16);
  std::vector<BFloat16> numbers(kBlockBytes / static_cast<int64_t>(sizeof(BFloat16)));
  for (BFloat16& number : numbers) number = BFloat16::FromFloat(uniform(random));
  return numbers;
}

}  // namespace

DeviceData::DeviceData(Backend& backend)
    : backend_(backend),
      stream_(backend.CreateStream(Lane::kHostToDevice)),
      numbers_(RandomNumbers()) {}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> DeviceData::Random(absl::string_view name,
                                                                 int64_t bytes) {
  bytes = Arena::AlignUp(bytes);
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceBuffer> buffer, backend_.AllocateDevice(name, bytes));
  const char* const block = reinterpret_cast<const char*>(numbers_.data());
  for (int64_t begin = 0; begin < bytes; begin += kBlockBytes) {
    const int64_t piece = std::min(kBlockBytes, bytes - begin);
    RETURN_IF_ERROR(
        backend_.Copy(ByteView(block, piece), ByteView(buffer->data() + begin, piece), *stream_));
  }
  RETURN_IF_ERROR(stream_->Synchronize());
  return buffer;
}

absl::Status DeviceData::Upload(const void* src, void* dst, int64_t bytes) {
  RETURN_IF_ERROR(backend_.Copy(ByteView(static_cast<const char*>(src), bytes),
                                ByteView(static_cast<const char*>(dst), bytes), *stream_));
  return stream_->Synchronize();
}

}  // namespace moelight
