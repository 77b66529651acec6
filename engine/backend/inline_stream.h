// InlineStream: the stream of a backend whose ops have ended when they return.
//
// Every backend on the host uses it; a backend gives it as the Stream of each lane.
// Threads: engine thread only. Allocates: in BeginStep() when a step has more tasks than any
// before.
#ifndef MOELIGHT_ENGINE_BACKEND_INLINE_STREAM_H_
#define MOELIGHT_ENGINE_BACKEND_INLINE_STREAM_H_

#include "engine/backend/backend.h"
#include "engine/backend/task_banks.h"

namespace moelight {

class InlineStream final : public Stream {
 public:
  void BeginStep(int num_tasks) override { tasks_.BeginStep(num_tasks); }
  void BeginAhead(int num_tasks) override { tasks_.BeginAhead(num_tasks); }
  void EndAhead() override { tasks_.EndAhead(); }
  void BeginTask(int task) override;
  void EndTask(int task) override;
  // The task has ended already unless the plan's order is wrong, which is a CHECK.
  absl::Status WaitFor(const Stream& other, int task) override;
  absl::Status RunOnHost(std::function<absl::Status()> work) override { return work(); }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  TaskTiming timing(int task) const override { return tasks_.record(task).timing; }

 private:
  enum class TaskState : uint8_t { kNotIssued, kRunning, kEnded };
  struct TaskRecord {
    TaskState state = TaskState::kNotIssued;
    TaskTiming timing;
  };

  TaskBanks<TaskRecord> tasks_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_INLINE_STREAM_H_
