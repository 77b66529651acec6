// AlignedBuffer: memory aligned to a cache line, large buffers in huge pages where the system has
// them. Pages that are never touched cost nothing.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ALIGNED_BUFFER_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ALIGNED_BUFFER_H_

#include <cstdint>
#include <cstdlib>
#include <memory>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>
#include <sys/mman.h>

namespace moelight {

class AlignedBuffer {
 public:
  static constexpr int64_t kAlignment = 64;
  static constexpr int64_t kHugePage = 2 << 20;

  static constexpr int64_t Padded(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  // Replaces the memory; its contents are undefined. ResourceExhausted names `purpose`.
  absl::Status Resize(int64_t bytes, absl::string_view purpose) {
    data_.reset();
    size_ = 0;
    if (bytes == 0) return absl::OkStatus();
    // Packed activations are read in pieces of 1 KiB, each in another small page: more pages than
    // the second-level TLB of a core has entries (2048, 8 MiB).
    const bool huge = bytes >= 2 * kHugePage;
    const int64_t padded = huge ? (bytes + kHugePage - 1) / kHugePage * kHugePage : Padded(bytes);
    data_.reset(std::aligned_alloc(huge ? kHugePage : kAlignment, padded));
    if (data_ == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot allocate ", bytes, " bytes for ", purpose));
    }
    if (huge) (void)madvise(data_.get(), padded, MADV_HUGEPAGE);  // advice: may fail
    size_ = bytes;
    return absl::OkStatus();
  }

  int64_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  std::unique_ptr<void, Free> data_;
  int64_t size_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ALIGNED_BUFFER_H_
