// Arena: one block of zeroed memory, handed out piece by piece and given back as a whole.
//
// Threads: one. Owns the block. Allocates from the system in Create() only.
// Errors: Create() returns ResourceExhausted naming the arena and its size; asking for more than
// was created is a bug of ours and a CHECK.
#ifndef MOELIGHT_ENGINE_MEMORY_ARENA_H_
#define MOELIGHT_ENGINE_MEMORY_ARENA_H_

#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/base/tensor_view.h"

namespace moelight {

class Arena {
 public:
  // Every piece starts on a cache line, which is also the width of the widest vector load.
  static constexpr int64_t kAlignment = 64;
  static int64_t AlignUp(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  static absl::StatusOr<std::unique_ptr<Arena>> Create(absl::string_view name, int64_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* Allocate(int64_t bytes);
  TensorView AllocateTensor(DType dtype, std::initializer_list<int64_t> dims);

  int64_t bytes() const { return bytes_; }
  int64_t used_bytes() const { return used_bytes_; }

 private:
  Arena(absl::string_view name, char* base, int64_t bytes)
      : name_(name), base_(base), bytes_(bytes) {}

  const std::string name_;
  char* const base_;
  const int64_t bytes_;
  int64_t used_bytes_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MEMORY_ARENA_H_
