#include "engine/backend/inline_stream.h"

#include <chrono>

#include "engine/base/check.h"

namespace moelight {
namespace {

double NowUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(now).count();
}

}  // namespace

void InlineStream::BeginTask(int task) {
  TaskRecord& begun = tasks_.issued(task);
  CHECK(begun.state == TaskState::kNotIssued) << "task " << task << " began twice";
  begun = {TaskState::kRunning, {NowUs(), 0}};
}

void InlineStream::EndTask(int task) {
  TaskRecord& ended = tasks_.issued(task);
  CHECK(ended.state == TaskState::kRunning) << "task " << task << " is not running";
  ended.state = TaskState::kEnded;
  ended.timing.end_us = NowUs();
}

absl::Status InlineStream::WaitFor(const Stream& other, int task) {
  const auto* stream = dynamic_cast<const InlineStream*>(&other);
  CHECK(stream != nullptr) << "the streams of a step belong to one backend";
  CHECK(stream->tasks_.record(task).state == TaskState::kEnded)
      << "task " << task << " is waited for before it was issued";
  return absl::OkStatus();
}

}  // namespace moelight
