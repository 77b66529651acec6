// StagedCopy: host memory to device memory through a small pinned buffer, for hosts that may not
// pin all weights (the memlock limit).
//
// A device copies unpinned memory slowly and makes the thread that asks for it wait. Here the bytes
// are brought into the pinned buffer by work on the copying stream, between two copies, so that
// nobody waits; but each byte crosses host memory three times and the link stands still meanwhile.
//
// Threads: Copy() by the engine thread; the work runs on the stream's host thread and on
// `num_threads` workers. Owns the buffer. Allocates in Create(), and a closure per piece in Copy().
#ifndef MOELIGHT_ENGINE_PIPELINE_STAGED_COPY_H_
#define MOELIGHT_ENGINE_PIPELINE_STAGED_COPY_H_

#include <cstdint>
#include <memory>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/base/parallel.h"
#include "engine/memory/arena.h"

namespace moelight {

class StagedCopy {
 public:
  // Of the pinned buffer: long enough for the link's full rate, small for any memlock limit.
  static constexpr int64_t kBufferBytes = int64_t{4} << 20;

  // ResourceExhausted if not even the buffer can be had. If it cannot be pinned, everything works,
  // and slowly.
  static absl::StatusOr<std::unique_ptr<StagedCopy>> Create(Backend& backend, int num_threads);

  // Enqueues dst = src on `stream`. Copies of one StagedCopy must go to one stream: its order is
  // what protects the buffer.
  absl::Status Copy(const char* src, char* dst, int64_t bytes, Stream& stream);

 private:
  StagedCopy(Backend& backend, int num_threads, std::unique_ptr<Arena> arena);

  Backend& backend_;
  ParallelRunner runner_;
  const std::unique_ptr<Arena> arena_;
  char* const buffer_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_STAGED_COPY_H_
