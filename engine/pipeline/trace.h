// TraceRecorder: the tasks of some steps as Chrome trace-event JSON (Perfetto reads it), one track
// per lane.
//
// Threads: thread-safe; RecordStep() is called by the engine thread after every step and costs one
// atomic load while no trace runs. Owns its spans, at most kMaxSpans; later ones are counted and
// dropped.
#ifndef MOELIGHT_ENGINE_PIPELINE_TRACE_H_
#define MOELIGHT_ENGINE_PIPELINE_TRACE_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include "engine/backend/backend.h"
#include "engine/base/mutex.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {

// Of one step, sampling included.
struct StepDuration {
  double measured_us = 0;
  double predicted_us = 0;  // 0: nothing was predicted
};

class TraceRecorder {
 public:
  // 64 MiB of JSON at about 130 bytes a span.
  static constexpr int64_t kMaxSpans = 500'000;

  void Start(int32_t max_steps);
  // FailedPrecondition if no trace was started.
  absl::StatusOr<std::string> Stop();

  // timings[i] is when plan.tasks[i] ran.
  void RecordStep(const StepPlan& plan, absl::Span<const TaskTiming> timings,
                  const StepDuration& duration = {});

 private:
  struct TraceSpan {
    TaskKind kind;
    int32_t step = 0;
    int32_t layer = 0;
    int32_t micro_batch = 0;
    int32_t part = 0;
    TaskTiming timing;
  };

  struct RecordedStep {
    double begin_us = 0;
    StepDuration duration;
  };

  std::atomic<bool> recording_ = false;
  Mutex mutex_;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  int32_t num_steps_left_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t num_steps_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<TraceSpan> spans_ ABSL_GUARDED_BY(mutex_);
  std::vector<RecordedStep> steps_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_TRACE_H_
