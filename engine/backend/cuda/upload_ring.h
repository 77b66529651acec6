// UploadRing brings the spans of ops (token ids, positions, block tables) to the device.
//
// A span is copied to pinned host memory and from there, by a small kernel on the op's own stream,
// to a mirror in device memory. A copy engine would do as well, but there the few bytes would wait
// behind pages of weights; and kernels that read the host's memory in place would wait for the link
// again in every layer. A span that a stream was given before in the same step, with the same
// content, is not brought twice: all layers of a step share their spans.
//
// There are two banks, one for each step under way: what was brought for a step stays until the
// step after the next begins.
//
// Threads: the one that issues ops. Allocates: in Reserve(). Borrows the mirror.
// Errors: Internal if a launch fails. A full bank waits for the device and begins anew; a span
// larger than a bank is beyond the limits of Reserve() and a CHECK.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_UPLOAD_RING_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_UPLOAD_RING_H_

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/ops.h"

namespace moelight {

class UploadRing {
 public:
  // Bytes of both banks: in pinned host memory, and again in the mirror.
  static int64_t Bytes(const OpLimits& limits);

  // `mirror`: Bytes() of device memory, aligned to 256. Forgets what was brought; nothing may run.
  absl::Status Reserve(const OpLimits& limits, char* mirror);

  // Marks of the gpu lane, as of Stream.
  void BeginStep();
  void BeginAhead();
  void EndAhead() { is_ahead_ = false; }

  // Where `bytes` of `data` lie in device memory, for kernels issued on `stream` from now on in
  // this step; aligned to 16. `key` stands for the span among those of the step: mostly `data`
  // itself. The data is copied before this returns.
  absl::StatusOr<const void*> Upload(const void* key, const void* data, int64_t bytes,
                                     cudaStream_t stream);

 private:
  struct Entry {
    const void* key = nullptr;
    cudaStream_t stream = nullptr;
    int64_t bytes = 0;
    int64_t offset = 0;
  };
  struct Bank {
    int64_t begin = 0;  // offset in the pinned memory and in the mirror
    int64_t used_bytes = 0;
    std::vector<Entry> entries;
  };

  static void Reset(Bank& bank);
  Bank& bank() { return banks_[is_ahead_ ? 1 - current_ : current_]; }

  std::unique_ptr<PinnedBuffer> pinned_;
  char* mirror_ = nullptr;
  int64_t bank_bytes_ = 0;
  std::array<Bank, 2> banks_;
  int current_ = 0;         // bank of this step; the other is the next one's
  bool has_ahead_ = false;  // whether the other holds spans already
  bool is_ahead_ = false;   // whether spans that come belong to the next step
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_UPLOAD_RING_H_
