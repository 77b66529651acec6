#include "engine/pipeline/staged_copy.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/backend/byte_view.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// More threads than this do not copy faster on the machines seen, and attention wants them.
constexpr int kMaxThreads = 4;
constexpr int64_t kPieceBytes = int64_t{256} << 10;  // of one thread at a time

}  // namespace

absl::StatusOr<std::unique_ptr<StagedCopy>> StagedCopy::Create(Backend& backend, int num_threads) {
  ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena,
                   Arena::Create("the staging of weights", kBufferBytes));
  (void)arena->Pin(backend, 1);
  return std::unique_ptr<StagedCopy>(
      new StagedCopy(backend, std::clamp(num_threads, 1, kMaxThreads), std::move(arena)));
}

StagedCopy::StagedCopy(Backend& backend, int num_threads, std::unique_ptr<Arena> arena)
    : backend_(backend),
      runner_(num_threads),
      arena_(std::move(arena)),
      buffer_(static_cast<char*>(arena_->Allocate(kBufferBytes))) {}

absl::Status StagedCopy::Copy(const char* src, char* dst, int64_t bytes, Stream& stream) {
  for (int64_t offset = 0; offset < bytes; offset += kBufferBytes) {
    const int64_t count = std::min(kBufferBytes, bytes - offset);
    RETURN_IF_ERROR(stream.RunOnHost([this, from = src + offset, count]() {
      runner_.For(count, kPieceBytes, [&](int64_t begin, int64_t end) {
        std::memcpy(buffer_ + begin, from + begin, end - begin);
      });
      return absl::OkStatus();
    }));
    RETURN_IF_ERROR(backend_.Copy(ByteView(buffer_, count), ByteView(dst + offset, count), stream));
  }
  return absl::OkStatus();
}

}  // namespace moelight
