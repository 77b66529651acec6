#include "engine/backend/inline_stream.h"

#include <chrono>

namespace moelight {
namespace {

double NowUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(now).count();
}

}  // namespace

void InlineStream::BeginStep(int num_tasks) { tasks_.assign(num_tasks, TaskRecord()); }

void InlineStream::BeginTask(int task) {
  CHECK(record(task).state == TaskState::kNotIssued) << "task " << task << " began twice";
  tasks_[task] = {TaskState::kRunning, {NowUs(), 0}};
}

void InlineStream::EndTask(int task) {
  CHECK(record(task).state == TaskState::kRunning) << "task " << task << " is not running";
  tasks_[task].state = TaskState::kEnded;
  tasks_[task].timing.end_us = NowUs();
}

absl::Status InlineStream::WaitFor(const Stream& other, int task) {
  const auto* stream = dynamic_cast<const InlineStream*>(&other);
  CHECK(stream != nullptr) << "the streams of a step belong to one backend";
  CHECK(stream->record(task).state == TaskState::kEnded)
      << "task " << task << " is waited for before it was issued";
  return absl::OkStatus();
}

TaskTiming InlineStream::timing(int task) const { return record(task).timing; }

const InlineStream::TaskRecord& InlineStream::record(int task) const {
  CHECK(task >= 0 && task < static_cast<int>(tasks_.size()))
      << "task " << task << " of " << tasks_.size();
  return tasks_[task];
}

}  // namespace moelight
