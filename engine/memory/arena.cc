#include "engine/memory/arena.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <sys/mman.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(absl::string_view name, int64_t bytes) {
  CHECK_GT(bytes, 0);
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot get ", bytes, " bytes for ", name, ": ", std::strerror(errno)));
  }
  // A hint: fewer TLB misses where the kernel grants huge pages, no harm where it does not.
  madvise(base, bytes, MADV_HUGEPAGE);
  return std::unique_ptr<Arena>(new Arena(name, static_cast<char*>(base), bytes, nullptr));
}

absl::StatusOr<std::unique_ptr<Arena>> Arena::CreateOnDevice(absl::string_view name, int64_t bytes,
                                                             Backend& backend) {
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceBuffer> device, backend.AllocateDevice(name, bytes));
  char* const base = device->data();
  return std::unique_ptr<Arena>(new Arena(name, base, bytes, std::move(device)));
}

Arena::Arena(absl::string_view name, char* base, int64_t bytes,
             std::unique_ptr<DeviceBuffer> device)
    : name_(name), base_(base), bytes_(bytes), device_(std::move(device)) {}

Arena::~Arena() {
  pinned_.reset();
  if (device_ == nullptr) munmap(base_, bytes_);
}

absl::Status Arena::Pin(Backend& backend, int num_threads) {
  CHECK(device_ == nullptr);
  if (!backend.has_device_memory() || backend.is_virtual()) return absl::OkStatus();
  TouchPages(base_, bytes_, num_threads);
  ASSIGN_OR_RETURN(pinned_, backend.PinHost(base_, bytes_));
  return absl::OkStatus();
}

void* Arena::Allocate(int64_t bytes) {
  CHECK_GE(bytes, 0);
  const int64_t begin = used_bytes_;
  used_bytes_ += AlignUp(bytes);
  CHECK_LE(used_bytes_, bytes_) << "arena " << name_ << " is too small";
  return base_ + begin;
}

TensorView Arena::AllocateTensor(DType dtype, std::initializer_list<int64_t> dims) {
  TensorView view = TensorView::Make(nullptr, dtype, dims);
  view.data = Allocate(view.bytes());
  return view;
}

void TouchPages(char* data, int64_t bytes, int num_threads) {
  constexpr int64_t kPageBytes = 4096;
  // One huge page at a time, so that two threads never make the same one.
  constexpr int64_t kPieceBytes = int64_t{2} << 20;
  const int64_t num_pieces = (bytes + kPieceBytes - 1) / kPieceBytes;
  const auto touch = [=](int thread) {
    const int64_t begin = num_pieces * thread / num_threads * kPieceBytes;
    const int64_t end = std::min(bytes, num_pieces * (thread + 1) / num_threads * kPieceBytes);
    // Volatile, or writing the zero that is there could be left out.
    for (int64_t i = begin; i < end; i += kPageBytes) static_cast<volatile char*>(data)[i] = 0;
  };
  std::vector<std::thread> threads;
  for (int thread = 1; thread < num_threads; ++thread) threads.emplace_back(touch, thread);
  touch(0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace moelight
