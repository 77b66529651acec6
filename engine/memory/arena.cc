#include "engine/memory/arena.h"

#include <cerrno>
#include <cstring>

#include <absl/strings/str_cat.h>
#include <sys/mman.h>

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
  return std::unique_ptr<Arena>(new Arena(name, static_cast<char*>(base), bytes));
}

Arena::~Arena() { munmap(base_, bytes_); }

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

}  // namespace moelight
