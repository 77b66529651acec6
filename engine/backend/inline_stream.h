// InlineStream: the stream of a backend whose ops have ended when they return.
//
// Every backend on the host uses it; a backend gives it as the Stream of each lane.
// Threads: engine thread only. Allocates: in BeginStep() when a step has more tasks than any
// before.
#ifndef MOELIGHT_ENGINE_BACKEND_INLINE_STREAM_H_
#define MOELIGHT_ENGINE_BACKEND_INLINE_STREAM_H_

#include <vector>

#include "engine/backend/backend.h"

namespace moelight {

class InlineStream final : public Stream {
 public:
  void BeginStep(int num_tasks) override;
  void BeginAhead(int num_tasks) override;
  void EndAhead() override { is_ahead_ = false; }
  void BeginTask(int task) override;
  void EndTask(int task) override;
  // The task has ended already unless the plan's order is wrong, which is a CHECK.
  absl::Status WaitFor(const Stream& other, int task) override;
  absl::Status RunOnHost(std::function<absl::Status()> work) override { return work(); }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  TaskTiming timing(int task) const override;

 private:
  enum class TaskState : uint8_t { kNotIssued, kRunning, kEnded };
  struct TaskRecord {
    TaskState state = TaskState::kNotIssued;
    TaskTiming timing;
  };

  const TaskRecord& record(int task) const;
  // Of the step whose tasks are named now.
  TaskRecord& issued(int task);

  std::vector<TaskRecord> tasks_;  // of this step
  std::vector<TaskRecord> ahead_;  // of the next one
  bool is_ahead_ = false;          // whether tasks that begin belong to the next step
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_INLINE_STREAM_H_
