// ParallelRunner: a fork-join loop over a fixed number of threads.
//
// Threads: one caller at a time; the caller works too. Inside a body, WorkerIndex() says which of
// the num_threads() workers runs it, for scratch of its own.
// Allocation: a few task objects inside oneTBB, which recycles them.
// Errors: bodies must not throw.
#ifndef MOELIGHT_ENGINE_BASE_PARALLEL_H_
#define MOELIGHT_ENGINE_BASE_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>

#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include "engine/base/check.h"

namespace moelight {

class ParallelRunner {
 public:
  explicit ParallelRunner(int num_threads) : num_threads_(num_threads), arena_(num_threads) {
    CHECK_GE(num_threads, 1);
    // Unless told otherwise, oneTBB never starts more threads than the machine has cores.
    if (num_threads > tbb::info::default_concurrency()) {
      more_threads_.emplace(tbb::global_control::max_allowed_parallelism, num_threads);
    }
    arena_.initialize();
  }
  ParallelRunner(const ParallelRunner&) = delete;
  ParallelRunner& operator=(const ParallelRunner&) = delete;

  int num_threads() const { return num_threads_; }

  // In [0, num_threads()). 0 outside of For() and in loops that For() runs on the caller alone.
  int WorkerIndex() const {
    return inside_ ? std::max(0, tbb::this_task_arena::current_thread_index()) : 0;
  }

  // Calls body(begin, end) for disjoint ranges that cover [0, n), each `grain` long but the last.
  // Which thread gets which range varies from run to run, so bodies must not depend on it.
  //
  // oneTBB gets one task per thread, and the threads draw ranges from a counter: the cost of a loop
  // does not grow with the number of ranges, and a thread that wakes late only finds less to do.
  template <typename Body>
  void For(int64_t n, int64_t grain, const Body& body) {
    if (n <= 0) return;
    grain = std::max<int64_t>(grain, 1);
    const int64_t num_ranges = (n + grain - 1) / grain;
    if (num_threads_ == 1 || num_ranges == 1) {
      body(int64_t{0}, n);
      return;
    }
    // The counter and `finished` also carry the happens-before edges of fork and join.
    // ThreadSanitizer cannot see those that oneTBB makes, because Debian's library is not
    // instrumented.
    next_range_.store(0, std::memory_order_release);
    inside_ = true;
    const auto draw_ranges = [&](int) {
      for (;;) {
        const int64_t range = next_range_.fetch_add(1, std::memory_order_acq_rel);
        if (range >= num_ranges) break;
        body(range * grain, std::min(n, (range + 1) * grain));
      }
      ReleaseToJoin();
    };
    const int num_tasks = static_cast<int>(std::min<int64_t>(num_threads_, num_ranges));
    arena_.execute([&] { tbb::parallel_for(0, num_tasks, draw_ranges, tbb::simple_partitioner()); });
    AcquireAtJoin();
    inside_ = false;
  }

 private:
#if defined(__SANITIZE_THREAD__)
  void ReleaseToJoin() { finished_.fetch_add(1, std::memory_order_acq_rel); }
  void AcquireAtJoin() { finished_.load(std::memory_order_acquire); }
  std::atomic<int64_t> finished_ = 0;
#else
  void ReleaseToJoin() {}
  void AcquireAtJoin() {}
#endif

  const int num_threads_;
  std::optional<tbb::global_control> more_threads_;
  tbb::task_arena arena_;
  bool inside_ = false;  // written by the caller while no worker runs
  alignas(64) std::atomic<int64_t> next_range_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_PARALLEL_H_
