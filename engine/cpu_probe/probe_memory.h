// ProbeMemory: the memory that a probe's kernels read, larger than any cache, so that every call
// finds its data as cold as in a large model.
//
// Threads: the caller's and those of the runner. Owns the memory. Allocates in Create() only.
#ifndef MOELIGHT_ENGINE_CPU_PROBE_PROBE_MEMORY_H_
#define MOELIGHT_ENGINE_CPU_PROBE_PROBE_MEMORY_H_

#include <cstdint>
#include <memory>
#include <utility>

#include <absl/status/statusor.h>

#include "engine/base/parallel.h"
#include "engine/memory/arena.h"

namespace moelight {

// Of the last level, as the system says; 0: unknown.
int64_t LastLevelCacheBytes();

// How many pieces of `piece_bytes` a probe's calls should go round, so that none is still in a
// cache when its turn comes again; at least one, at most what `memory_bytes` holds.
int64_t NumColdPieces(int64_t piece_bytes, int64_t memory_bytes);

class ProbeMemory {
 public:
  // `bytes` of bf16 numbers between -1/16 and 1/16, in huge pages where the system has them. Read
  // as f16, as whole numbers of 8 bits or as f32 scales they are finite as well.
  // ResourceExhausted if the system has not as much memory free.
  static absl::StatusOr<std::unique_ptr<ProbeMemory>> Create(int64_t bytes, ParallelRunner& runner);

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  ProbeMemory(std::unique_ptr<Arena> arena, char* data, int64_t bytes)
      : arena_(std::move(arena)), data_(data), bytes_(bytes) {}

  const std::unique_ptr<Arena> arena_;
  char* const data_;
  const int64_t bytes_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_PROBE_PROBE_MEMORY_H_
