// BenchRecorder: keeps every step of a run and sums up those of a window.
//
// Threads: OnStep comes from the engine's thread; everything else is thread-safe. Owns the steps:
// about 250 bytes each.
#ifndef MOELIGHT_SERVER_BENCH_RECORDER_H_
#define MOELIGHT_SERVER_BENCH_RECORDER_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include <absl/types/span.h>

#include "engine/base/lane.h"
#include "engine/base/mutex.h"
#include "engine/engine.h"

namespace moelight {

struct BenchStep {
  StepStats stats;
  double wall_seconds = 0;   // since the step before it, or the begin of the run
  double kv_page_share = 0;  // of all KV pages, in use after it
};

// Which steps a figure is about.
enum class BenchWindow : uint8_t {
  kWholeRun,
  kSteady,        // at least 95 % of the most sequences seen
  kDecodeSteady,  // of those, the steps without prompt tokens
};

// Sums over the steps of a window; means are per step.
struct BenchSummary {
  int64_t num_steps = 0;
  double wall_seconds = 0;
  double step_seconds = 0;
  double engine_seconds = 0;     // from the choice of a batch to its last token sampled
  double predicted_seconds = 0;  // for the same; 0: no hardware profile
  std::array<double, kNumLanes> predicted_lane_us = {};  // by Lane
  int64_t num_sequences = 0;
  int64_t num_generated_tokens = 0;
  int64_t num_prompt_tokens = 0;
  int64_t num_preempted_sequences = 0;
  int64_t num_recomputed_tokens = 0;
  int64_t num_shared_prompt_tokens = 0;
  double kv_page_share_mean = 0;
  double step_us_mean = 0;
  double step_us_p50 = 0;
  double step_us_p95 = 0;
  std::array<double, kNumLanes> lane_busy_us = {};                          // by Lane
  std::array<std::array<double, kNumLanes>, kNumLanes> lane_stall_us = {};  // [lane][cause]
  int64_t h2d_bytes = 0;
  int64_t d2h_bytes = 0;
  double transfer_overlapped_us = 0;
  double compute_overlapped_us = 0;

  double busy_us(Lane lane) const { return lane_busy_us[static_cast<int>(lane)]; }
};

BenchSummary SummarizeSteps(absl::Span<const BenchStep> steps, BenchWindow window);

class BenchRecorder final : public EngineObserver {
 public:
  struct Totals {
    int64_t num_steps = 0;
    int64_t num_generated_tokens = 0;
    int32_t peak_sequences = 0;
    // Steps with at least 95 % of the peak since the peak was last raised: while a batch is being
    // filled they stay few.
    int64_t num_full_steps = 0;
  };

  // The run begins now. Both (may be null) are called for every step on the engine's thread:
  // `kv_page_share` tells how many of the KV pages are in use, `on_step` comes after it was kept.
  void Begin(std::function<double()> kv_page_share, std::function<void(const Totals&)> on_step);
  // `kv_page_share` is not called any more. Call before what it asks goes away.
  void EndSampling();

  void OnStep(const StepStats& stats) override;
  void OnRequestFinished(const GenerateResult&, const RequestStats&) override {}

  Totals totals() const;
  std::vector<BenchStep> steps() const;

 private:
  using Clock = std::chrono::steady_clock;

  std::function<void(const Totals&)> on_step_;  // set before the first step
  mutable Mutex mutex_;
  std::function<double()> kv_page_share_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point last_time_ ABSL_GUARDED_BY(mutex_);
  Totals totals_ ABSL_GUARDED_BY(mutex_);
  std::vector<BenchStep> steps_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BENCH_RECORDER_H_
