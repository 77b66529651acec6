// WeightArena: the memory that holds a model's weights, zeroed, in huge pages where the system
// has them.
//
// Pages are not touched here: whoever writes a page first makes it resident, on that thread and so
// on its memory node, which lets the loading threads share the cost.
//
// Threads: create and destroy on any one thread. Owns: the mapping.
#ifndef MOELIGHT_ENGINE_MODEL_WEIGHT_ARENA_H_
#define MOELIGHT_ENGINE_MODEL_WEIGHT_ARENA_H_

#include <cstdint>

#include <absl/status/statusor.h>

namespace moelight {

class WeightArena {
 public:
  // Address alignment of the arena: the huge page of x86-64 and of arm64 with 4 KiB pages.
  static constexpr int64_t kAlignment = int64_t{2} << 20;

  // Errors: ResourceExhausted if the system grants no mapping of `bytes`.
  static absl::StatusOr<WeightArena> Create(int64_t bytes);

  WeightArena() = default;  // empty
  WeightArena(WeightArena&& other) noexcept;
  WeightArena& operator=(WeightArena&& other) noexcept;
  ~WeightArena();

  // Gives the memory of the whole small pages within [begin, begin + bytes) back to the system;
  // they read as zeros from then on.
  void Release(char* begin, int64_t bytes);

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void* mapping_ = nullptr;
  int64_t mapping_bytes_ = 0;
  char* data_ = nullptr;  // first aligned address of the mapping
  int64_t bytes_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_WEIGHT_ARENA_H_
