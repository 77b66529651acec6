// Built without ThreadSanitizer: Debian's oneTBB is not instrumented, so that the part of it that
// lives in headers would seem to race with the part that lives in the library. ParallelRunner's own
// atomics tell ThreadSanitizer what the fork and the join order.
#include "engine/base/parallel.h"

#include <optional>

#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

namespace moelight {

class ParallelRunner::Arena {
 public:
  explicit Arena(int num_threads) : arena_(num_threads) {
    // Unless told otherwise, oneTBB never starts more threads than the machine has cores.
    if (num_threads > tbb::info::default_concurrency()) {
      more_threads_.emplace(tbb::global_control::max_allowed_parallelism, num_threads);
    }
    arena_.initialize();
  }

  template <typename Task>
  void Run(int num_tasks, const Task& task) {
    arena_.execute([&] { tbb::parallel_for(0, num_tasks, task, tbb::simple_partitioner()); });
  }

 private:
  std::optional<tbb::global_control> more_threads_;
  tbb::task_arena arena_;
};

ParallelRunner::ParallelRunner(int num_threads) : num_threads_(num_threads) {
  CHECK_GE(num_threads, 1);
  if (num_threads > 1) arena_ = std::make_unique<Arena>(num_threads);
}

ParallelRunner::~ParallelRunner() = default;

int ParallelRunner::WorkerIndex() const {
  return inside_ ? tbb::this_task_arena::current_thread_index() : 0;
}

void ParallelRunner::ForkJoin(int num_tasks, Task task, const void* context) {
  inside_ = true;
  arena_->Run(num_tasks, [=, this](int) { task(this, context); });
  inside_ = false;
}

}  // namespace moelight
