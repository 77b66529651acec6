#include "engine/pipeline/trace.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/base/check.h"
#include "engine/base/lane.h"

namespace moelight {
namespace {

// Of one span in the text below, numbers of usual length included; only sizes the buffer.
constexpr int64_t kSpanBytes = 144;

// Tracks are shown in the order of their ids, which is the order of Lane.
int TrackId(Lane lane) { return static_cast<int>(lane); }

void AppendTrackNames(std::string* json) {
  for (const Lane lane : kAllLanes) {
    absl::StrAppend(
        json, "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":", TrackId(lane),
        ",\"args\":{\"name\":\"", LaneName(lane), "\"}},\n",
        "{\"name\":\"thread_sort_index\",\"ph\":\"M\",\"pid\":1,\"tid\":", TrackId(lane),
        ",\"args\":{\"sort_index\":", TrackId(lane), "}},\n");
  }
}

}  // namespace

void TraceRecorder::Start(int32_t max_steps) {
  MutexLock lock(&mutex_);
  spans_.clear();
  steps_.clear();
  started_ = true;
  num_steps_left_ = std::max(0, max_steps);
  num_steps_ = 0;
  num_dropped_ = 0;
  recording_.store(num_steps_left_ > 0, std::memory_order_relaxed);
}

void TraceRecorder::RecordStep(const StepPlan& plan, absl::Span<const TaskTiming> timings,
                               const StepDuration& duration) {
  if (!recording_.load(std::memory_order_relaxed)) return;
  CHECK_LE(plan.tasks.size(), timings.size());
  MutexLock lock(&mutex_);
  if (num_steps_left_ == 0) return;
  for (size_t i = 0; i < plan.tasks.size(); ++i) {
    const Task& task = plan.tasks[i];
    // It is still running, and the next step has it again.
    if (task.ahead) continue;
    if (static_cast<int64_t>(spans_.size()) == kMaxSpans) {
      ++num_dropped_;
      continue;
    }
    spans_.push_back({task.kind, num_steps_, task.layer, task.micro_batch, task.part, timings[i]});
  }
  if (plan.num_head_tasks < static_cast<int32_t>(plan.tasks.size())) {
    steps_.push_back({timings[plan.num_head_tasks].begin_us, duration});
  }
  ++num_steps_;
  if (--num_steps_left_ == 0) recording_.store(false, std::memory_order_relaxed);
}

absl::StatusOr<std::string> TraceRecorder::Stop() {
  std::vector<TraceSpan> spans;
  std::vector<RecordedStep> steps;
  int64_t num_dropped = 0;
  int32_t num_steps = 0;
  {
    MutexLock lock(&mutex_);
    if (!started_) return absl::FailedPreconditionError("no trace was started");
    recording_.store(false, std::memory_order_relaxed);
    started_ = false;
    num_steps_left_ = 0;
    num_dropped = num_dropped_;
    num_steps = num_steps_;
    spans.swap(spans_);
    steps.swap(steps_);
  }
  // Weights of the first layer may have been copied before anything else of the step began.
  double begin_us = spans.empty() ? 0 : spans[0].timing.begin_us;
  for (const TraceSpan& span : spans) begin_us = std::min(begin_us, span.timing.begin_us);

  std::string json = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  json.reserve(json.size() + (spans.size() + 2 * kNumLanes) * kSpanBytes);
  AppendTrackNames(&json);
  for (const TraceSpan& span : spans) {
    absl::StrAppendFormat(
        &json,
        "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,"
        "\"args\":{\"step\":%d,\"layer\":%d,\"micro_batch\":%d,\"part\":%d}},\n",
        TaskKindName(span.kind), TrackId(TaskLane(span.kind)), span.timing.begin_us - begin_us,
        std::max(0.0, span.timing.end_us - span.timing.begin_us), span.step, span.layer,
        span.micro_batch, span.part);
  }
  // Perfetto draws counters as curves: measured beside predicted, step by step.
  for (const RecordedStep& step : steps) {
    if (step.duration.predicted_us <= 0) continue;
    absl::StrAppendFormat(&json,
                          "{\"name\":\"step_us\",\"ph\":\"C\",\"pid\":1,\"ts\":%.3f,"
                          "\"args\":{\"measured\":%.3f,\"predicted\":%.3f}},\n",
                          std::max(0.0, step.begin_us - begin_us), step.duration.measured_us,
                          step.duration.predicted_us);
  }
  // The last event also spares the comma after the last span.
  absl::StrAppend(&json,
                  "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,"
                  "\"args\":{\"name\":\"moelight\"}}\n],\"otherData\":{\"num_steps\":",
                  num_steps, ",\"num_dropped\":", num_dropped, "}}\n");
  return json;
}

}  // namespace moelight
