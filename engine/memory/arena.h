// Arena: one block of zeroed memory, handed out piece by piece and given back as a whole.
//
// Threads: one. Owns the block. Allocates from the system in Create() and CreateOnDevice() only.
// Errors: ResourceExhausted naming the arena and its size; asking for more than was created is a
// bug of ours and a CHECK.
#ifndef MOELIGHT_ENGINE_MEMORY_ARENA_H_
#define MOELIGHT_ENGINE_MEMORY_ARENA_H_

#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/backend/backend.h"
#include "engine/base/tensor_view.h"

namespace moelight {

class Arena {
 public:
  // Every piece starts at a multiple of it: four cache lines, and what GPUs read at once.
  static constexpr int64_t kAlignment = 256;
  static int64_t AlignUp(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  // Host memory, in huge pages where the system has them. Pages are made when they are touched.
  static absl::StatusOr<std::unique_ptr<Arena>> Create(absl::string_view name, int64_t bytes);
  static absl::StatusOr<std::unique_ptr<Arena>> CreateOnDevice(absl::string_view name,
                                                               int64_t bytes, Backend& backend);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Touches all pages of host memory with `num_threads` threads and pins them for `backend`;
  // nothing to do for one without device memory. ResourceExhausted if the system does not allow it:
  // the memory is usable, copies are slow.
  absl::Status Pin(Backend& backend, int num_threads);

  void* Allocate(int64_t bytes);
  TensorView AllocateTensor(DType dtype, std::initializer_list<int64_t> dims);

  int64_t bytes() const { return bytes_; }
  int64_t used_bytes() const { return used_bytes_; }

 private:
  Arena(absl::string_view name, char* base, int64_t bytes, std::unique_ptr<DeviceBuffer> device);

  const std::string name_;
  char* const base_;
  const int64_t bytes_;
  const std::unique_ptr<DeviceBuffer> device_;  // null: host memory
  std::unique_ptr<PinnedRange> pinned_;
  int64_t used_bytes_ = 0;
};

// Writes to every page of [data, data + bytes) with `num_threads` threads, so that the system makes
// them in parallel.
void TouchPages(char* data, int64_t bytes, int num_threads);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MEMORY_ARENA_H_
