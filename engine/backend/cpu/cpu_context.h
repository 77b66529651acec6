// CpuContext: what all ops of a cpu backend share: kernels, threads, and scratch per thread.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_CPU_CONTEXT_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_CPU_CONTEXT_H_

#include <algorithm>
#include <cstdint>

#include "engine/backend/cpu/aligned_buffer.h"
#include "engine/backend/cpu/isa.h"
#include "engine/base/parallel.h"

namespace moelight {

// Work that is worth a fork and a join, about 2 us, below which a loop is not split: multiply-adds
// of a matrix product, and elements of a loop over rows. Of the latter few are enough, because rows
// that another core wrote last take longer to arrive than to compute on.
inline constexpr int64_t kMinTaskMacs = 256 << 10;
inline constexpr int64_t kMinTaskElements = 8 << 10;
// Ranges per thread, so that a thread that was late or met longer work evens out.
inline constexpr int64_t kTasksPerThread = 4;

class CpuContext {
 public:
  CpuContext(const CpuIsa& isa, const ParallelOptions& threads)
      : kernels(*isa.kernels), isa_name(isa.name), runner(threads) {}

  // Scratch for each worker. Called by Reserve() only.
  absl::Status ReserveWorkerBytes(int64_t bytes) {
    worker_bytes_ = AlignedBuffer::Padded(bytes);
    return workers_.Resize(worker_bytes_ * runner.num_threads(), "scratch of the cpu backend");
  }
  // The scratch of the worker that calls.
  char* WorkerScratch(int64_t bytes) const {
    CHECK_LE(bytes, worker_bytes_) << "beyond Reserve()";
    return workers_.as<char>() + runner.WorkerIndex() * worker_bytes_;
  }

  // Packed activations, see kernels.h.
  int64_t PackedBytes(int64_t num_rows, int64_t num_cols) const {
    return num_rows * PackedCols(num_cols) * kernels.act_bytes;
  }
  // Room for the panels of an op. Called by Reserve() only.
  absl::Status ReservePanelBytes(int64_t bytes) {
    panel_bytes_ = bytes;
    return panels_.Resize(bytes + kPackedSlackBytes, "packed activations");
  }
  int64_t panel_bytes() const { return panel_bytes_; }
  char* Panels(int64_t bytes) const {
    CHECK_LE(bytes, panel_bytes_) << "beyond Reserve()";
    return panels_.as<char>();
  }

  // Runs body(row) for all rows of `num_cols` elements each.
  template <typename Body>
  void ForRows(int64_t num_rows, int64_t num_cols, const Body& body) {
    const int64_t grain = kMinTaskElements / std::max<int64_t>(num_cols, 1);
    runner.For(num_rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }

  const CpuKernels& kernels;
  const absl::string_view isa_name;
  ParallelRunner runner;

 private:
  int64_t worker_bytes_ = 0;
  AlignedBuffer workers_;
  int64_t panel_bytes_ = 0;
  AlignedBuffer panels_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_CPU_CONTEXT_H_
