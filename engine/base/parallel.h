// ParallelRunner: a fork-join loop over a fixed number of threads, on a oneTBB arena of its own.
//
// Threads: one caller at a time; the caller works too. Inside a body, WorkerIndex() says which of
// the num_threads() workers runs it, for scratch of its own.
//
// With `pin`, worker i keeps to one CPU of its own (cpu_placement.h) while it is in the arena:
// oneTBB's threads until they leave it for lack of work, because they may serve other runners then;
// the caller from its first loop on until another thread calls or the runner goes away, because a
// system call or two per loop would cost as much as a short loop. Where it matters the caller is
// one thread for the runner's whole life: the engine's, or the one on which a stream runs host
// work. Who is bound no more may run where the thread could that made the runner; so no runner that
// pins should be made on a thread that another one has bound.
//
// Allocation: a few task objects inside oneTBB, which recycles them, and with `pin` a short list.
// Errors: bodies must not throw.
#ifndef MOELIGHT_ENGINE_BASE_PARALLEL_H_
#define MOELIGHT_ENGINE_BASE_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/base/check.h"

namespace moelight {

struct ParallelOptions {
  int num_threads = 1;  // at least 1
  // Binds workers to CPUs. Nothing happens with one thread, with more threads than CPUs, or if the
  // system refuses; CheckCanPin() tells before.
  bool pin = false;
};

class ParallelRunner {
 public:
  explicit ParallelRunner(const ParallelOptions& options);
  explicit ParallelRunner(int num_threads) : ParallelRunner(ParallelOptions{num_threads}) {}
  ~ParallelRunner();
  ParallelRunner(const ParallelRunner&) = delete;
  ParallelRunner& operator=(const ParallelRunner&) = delete;

  int num_threads() const { return num_threads_; }
  bool is_pinned() const;  // whether workers are bound to CPUs

  // In [0, num_threads()). 0 outside of For() and in loops that For() runs on the caller alone.
  int WorkerIndex() const;

  // Calls body(begin, end) for disjoint ranges that cover [0, n), each `grain` long but the last.
  // Which thread gets which range varies from run to run, so results must not depend on it. A loop
  // of one range runs on the caller.
  //
  // oneTBB gets one task per thread, and the tasks draw ranges from a counter: the cost of a loop
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
    const auto draw_ranges = [&] {
      for (;;) {
        const int64_t range = next_range_.fetch_add(1, std::memory_order_acq_rel);
        if (range >= num_ranges) break;
        body(range * grain, std::min(n, (range + 1) * grain));
      }
      num_finished_.fetch_add(1, std::memory_order_release);
    };
    const int num_tasks = static_cast<int>(std::min<int64_t>(num_threads_, num_ranges));
    num_finished_.store(0, std::memory_order_relaxed);
    next_range_.store(0, std::memory_order_release);
    ForkJoin(
        num_tasks,
        [](ParallelRunner* runner, const void* draw) {
          runner->next_range_.load(std::memory_order_acquire);  // before the closure is read
          (*static_cast<const decltype(draw_ranges)*>(draw))();
        },
        &draw_ranges);
    CHECK_EQ(num_finished_.load(std::memory_order_acquire), num_tasks);
  }

 private:
  class Arena;  // keeps oneTBB out of this header, see parallel.cc

  using Task = void (*)(ParallelRunner* runner, const void* context);
  // Calls task(this, context) `num_tasks` times, on any of the threads.
  void ForkJoin(int num_tasks, Task task, const void* context);

  const int num_threads_;
  std::unique_ptr<Arena> arena_;
  bool inside_ = false;  // written by the caller while no worker runs
  // These two order what happens before, in and after a loop, without regard to what oneTBB does:
  // the counter is stored before the fork, and every task adds itself to `num_finished_` at its
  // end.
  alignas(64) std::atomic<int64_t> next_range_ = 0;
  alignas(64) std::atomic<int64_t> num_finished_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_PARALLEL_H_
