// TaskBanks: what a Stream keeps of the tasks of this step and of those issued ahead for the next.
//
// Threads: the stream's. Allocates in BeginStep() and BeginAhead(), when a step has more tasks than
// any before. A task out of range is a bug of ours and a CHECK.
#ifndef MOELIGHT_ENGINE_BACKEND_TASK_BANKS_H_
#define MOELIGHT_ENGINE_BACKEND_TASK_BANKS_H_

#include <vector>

#include "engine/base/check.h"

namespace moelight {

template <typename Record>
class TaskBanks {
 public:
  // As Stream's.
  void BeginStep(int num_tasks) {
    tasks_.swap(ahead_);
    tasks_.resize(num_tasks);
    ahead_.clear();
    is_ahead_ = false;
  }
  void BeginAhead(int num_tasks) {
    ahead_.resize(num_tasks);
    is_ahead_ = true;
  }
  void EndAhead() { is_ahead_ = false; }

  // A task of this step.
  const Record& record(int task) const {
    CHECK(task >= 0 && task < static_cast<int>(tasks_.size()))
        << "task " << task << " of " << tasks_.size();
    return tasks_[task];
  }
  // A task of the step whose tasks are named now.
  Record& issued(int task) {
    std::vector<Record>& tasks = is_ahead_ ? ahead_ : tasks_;
    CHECK(task >= 0 && task < static_cast<int>(tasks.size()))
        << "task " << task << " of " << tasks.size();
    return tasks[task];
  }

 private:
  std::vector<Record> tasks_;  // of this step
  std::vector<Record> ahead_;  // of the next one
  bool is_ahead_ = false;      // whether tasks that begin belong to the next step
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_TASK_BANKS_H_
