#include "engine/model/weight_arena.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <sys/mman.h>

#include "engine/base/check.h"

namespace moelight {

absl::StatusOr<WeightArena> WeightArena::Create(int64_t bytes) {
  CHECK_GT(bytes, 0);
  WeightArena arena;
  // Room to begin at an aligned address: mmap promises only small pages. Address space is free.
  arena.mapping_bytes_ = bytes + kAlignment;
  void* mapping = mmap(nullptr, static_cast<size_t>(arena.mapping_bytes_), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", bytes, " bytes for weights: ", std::strerror(errno)));
  }
  arena.mapping_ = mapping;
  const uintptr_t address = reinterpret_cast<uintptr_t>(mapping);
  const int64_t skip = static_cast<int64_t>(-address % static_cast<uintptr_t>(kAlignment));
  arena.data_ = static_cast<char*>(mapping) + skip;
  arena.bytes_ = bytes;
  // A hint: without huge pages everything works, with more TLB misses.
  (void)madvise(arena.data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return arena;
}

WeightArena::WeightArena(WeightArena&& other) noexcept { *this = std::move(other); }

WeightArena& WeightArena::operator=(WeightArena&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapping_bytes_, other.mapping_bytes_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void WeightArena::Release(char* begin, int64_t bytes) {
  constexpr uintptr_t kPage = 4096;
  CHECK(begin >= data_ && begin + bytes <= data_ + bytes_);
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(begin) + bytes) / kPage * kPage;
  if (first >= last) return;
  // A hint like the one in Create(): without it the memory stays taken, nothing else changes.
  (void)madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

WeightArena::~WeightArena() {
  if (mapping_ != nullptr) munmap(mapping_, static_cast<size_t>(mapping_bytes_));
}

}  // namespace moelight
