#include "engine/backend/inline_stream.h"

#include <chrono>

namespace moelight {
namespace {

double NowUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(now).count();
}

}  // namespace

void InlineStream::BeginStep(int num_tasks) {
  tasks_.swap(ahead_);
  tasks_.resize(num_tasks);
  ahead_.clear();
  is_ahead_ = false;
}

void InlineStream::BeginAhead(int num_tasks) {
  ahead_.resize(num_tasks);
  is_ahead_ = true;
}

void InlineStream::BeginTask(int task) {
  TaskRecord& begun = issued(task);
  CHECK(begun.state == TaskState::kNotIssued) << "task " << task << " began twice";
  begun = {TaskState::kRunning, {NowUs(), 0}};
}

void InlineStream::EndTask(int task) {
  TaskRecord& ended = issued(task);
  CHECK(ended.state == TaskState::kRunning) << "task " << task << " is not running";
  ended.state = TaskState::kEnded;
  ended.timing.end_us = NowUs();
}

absl::Status InlineStream::WaitFor(const Stream& other, int task) {
  const auto* stream = dynamic_cast<const InlineStream*>(&other);
  CHECK(stream != nullptr) << "the streams of a step belong to one backend";
  CHECK(stream->record(task).state == TaskState::kEnded)
      << "task " << task << " is waited for before it was issued";
  return absl::OkStatus();
}

TaskTiming InlineStream::timing(int task) const { return record(task).timing; }

InlineStream::TaskRecord& InlineStream::issued(int task) {
  std::vector<TaskRecord>& tasks = is_ahead_ ? ahead_ : tasks_;
  CHECK(task >= 0 && task < static_cast<int>(tasks.size()))
      << "task " << task << " of " << tasks.size();
  return tasks[task];
}

const InlineStream::TaskRecord& InlineStream::record(int task) const {
  CHECK(task >= 0 && task < static_cast<int>(tasks_.size()))
      << "task " << task << " of " << tasks_.size();
  return tasks_[task];
}

}  // namespace moelight
