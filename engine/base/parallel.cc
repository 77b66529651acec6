// Built without ThreadSanitizer: Debian's oneTBB is not instrumented, so that the part of it that
// lives in headers would seem to race with the part that lives in the library. ParallelRunner's own
// atomics tell ThreadSanitizer what the fork and the join order. What else threads share here, the
// CPUs that they are bound to, is behind a lock of oneTBB's: ThreadSanitizer sees a mutex of the
// system's but not how oneTBB brings a worker to it, and would call that a race.
#include "engine/base/parallel.h"

#include <sched.h>
#include <unistd.h>

#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/spin_mutex.h>
#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>

#include "engine/base/cpu_placement.h"

namespace moelight {
namespace {

// Where threads may run that are bound no more: where the one that made the runner could.
void Unbind(pid_t thread, const cpu_set_t& all) { sched_setaffinity(thread, sizeof(all), &all); }

// For a thread that may have ended: its number might be another process's by now.
void UnbindIfAlive(pid_t thread, const cpu_set_t& all) {
  if (access(absl::StrCat("/proc/self/task/", thread).c_str(), F_OK) == 0) Unbind(thread, all);
}

// Binds each thread that enters an arena to the CPU of its slot. System calls that fail change
// nothing: the thread runs where the system puts it.
class PinningObserver final : public tbb::task_scheduler_observer {
 public:
  // `cpus` has one for every slot.
  PinningObserver(tbb::task_arena& arena, std::vector<int> cpus, const cpu_set_t& all)
      : tbb::task_scheduler_observer(arena), cpus_(std::move(cpus)), all_(all) {
    observe(true);
  }
  ~PinningObserver() override {
    observe(false);  // waits for calls that are under way
    // Threads that are still in the arena have not been told to leave it.
    for (const pid_t worker : workers_) UnbindIfAlive(worker, all_);
    if (caller_.has_value()) UnbindIfAlive(caller_->number, all_);
  }

  void on_scheduler_entry(bool is_worker) override {
    const int slot = tbb::this_task_arena::current_thread_index();
    if (slot < 0 || slot >= static_cast<int>(cpus_.size())) return;
    if (!is_worker) return BindCaller(slot);
    tbb::spin_mutex::scoped_lock lock(mutex_);
    if (Bind(slot)) workers_.push_back(gettid());
  }

  void on_scheduler_exit(bool is_worker) override {
    if (!is_worker) return;  // stays bound, see parallel.h
    tbb::spin_mutex::scoped_lock lock(mutex_);
    if (std::erase(workers_, gettid()) > 0) Unbind(0, all_);
  }

 private:
  struct Caller {
    std::thread::id id;  // as quick to learn as a register is to read
    pid_t number;
    int slot;
  };

  bool Bind(int slot) const {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpus_[slot], &one);
    return sched_setaffinity(0, sizeof(one), &one) == 0;
  }

  // There is one caller at a time, so no lock is needed.
  void BindCaller(int slot) {
    const std::thread::id id = std::this_thread::get_id();
    if (caller_.has_value() && caller_->id == id && caller_->slot == slot) return;
    if (caller_.has_value()) UnbindIfAlive(caller_->number, all_);
    caller_.reset();
    if (Bind(slot)) caller_ = {id, gettid(), slot};
  }

  const std::vector<int> cpus_;
  const cpu_set_t all_;
  std::optional<Caller> caller_;  // the last one
  tbb::spin_mutex mutex_;
  std::vector<pid_t> workers_;  // that are in the arena
};

}  // namespace

class ParallelRunner::Arena {
 public:
  explicit Arena(const ParallelOptions& options) : arena_(options.num_threads) {
    // Unless told otherwise, oneTBB never starts more threads than the machine has cores.
    if (options.num_threads > tbb::info::default_concurrency()) {
      more_threads_.emplace(tbb::global_control::max_allowed_parallelism, options.num_threads);
    }
    arena_.initialize();
    if (options.pin) Pin(options.num_threads);
  }

  template <typename Task>
  void Run(int num_tasks, const Task& task) {
    arena_.execute([&] { tbb::parallel_for(0, num_tasks, task, tbb::simple_partitioner()); });
  }
  bool is_pinned() const { return observer_.has_value(); }

 private:
  void Pin(int num_threads) {
    const absl::StatusOr<std::vector<AllowedCpu>> allowed = AllowedCpus();
    if (!allowed.ok()) return;
    std::vector<int> cpus = PlaceWorkers(*allowed, num_threads);
    if (cpus.empty()) return;
    cpu_set_t all;
    CPU_ZERO(&all);
    for (const AllowedCpu& cpu : *allowed) CPU_SET(cpu.cpu, &all);
    observer_.emplace(arena_, std::move(cpus), all);
  }

  std::optional<tbb::global_control> more_threads_;
  tbb::task_arena arena_;
  std::optional<PinningObserver> observer_;
};

ParallelRunner::ParallelRunner(const ParallelOptions& options) : num_threads_(options.num_threads) {
  CHECK_GE(num_threads_, 1) << "num_threads";
  if (num_threads_ > 1) arena_ = std::make_unique<Arena>(options);
}

ParallelRunner::~ParallelRunner() = default;

bool ParallelRunner::is_pinned() const { return arena_ != nullptr && arena_->is_pinned(); }

int ParallelRunner::WorkerIndex() const {
  return inside_ ? tbb::this_task_arena::current_thread_index() : 0;
}

void ParallelRunner::ForkJoin(int num_tasks, Task task, const void* context) {
  inside_ = true;
  arena_->Run(num_tasks, [=, this](int) { task(this, context); });
  inside_ = false;
}

}  // namespace moelight
