#include "server/bench_recorder.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moelight {
namespace {

// A batch counts as full a little below its peak: places change hands between steps.
constexpr double kFullShare = 0.95;
constexpr double kSecondsPerMicrosecond = 1e-6;

bool IsFull(int32_t num_sequences, int32_t peak) { return num_sequences >= kFullShare * peak; }

bool IsInWindow(const StepStats& stats, BenchWindow window, int32_t peak) {
  if (window == BenchWindow::kWholeRun) return true;
  if (!IsFull(stats.num_sequences, peak)) return false;
  return window == BenchWindow::kSteady || stats.num_prefill_tokens == 0;
}

// The smallest value that at least `share` of them do not exceed.
double Percentile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0;
  const double rank = std::ceil(share * static_cast<double>(sorted.size()));
  return sorted[std::max<size_t>(1, static_cast<size_t>(rank)) - 1];
}

void Add(const BenchStep& step, BenchSummary* summary) {
  const StepStats& stats = step.stats;
  ++summary->num_steps;
  summary->wall_seconds += step.wall_seconds;
  summary->step_seconds += stats.step_us * kSecondsPerMicrosecond;
  summary->engine_seconds += stats.wall_us * kSecondsPerMicrosecond;
  summary->predicted_seconds += stats.predicted_wall_us * kSecondsPerMicrosecond;
  summary->num_sequences += stats.num_sequences;
  summary->num_generated_tokens += stats.num_generated_tokens;
  summary->num_preempted_sequences += stats.num_preempted_sequences;
  summary->num_recomputed_tokens += stats.num_recomputed_tokens;
  summary->num_shared_prompt_tokens += stats.num_shared_prompt_tokens;
  summary->kv_page_share_mean += step.kv_page_share;
  summary->num_prompt_tokens += stats.num_prefill_tokens;
  for (int lane = 0; lane < kNumLanes; ++lane) {
    summary->lane_busy_us[lane] += stats.lane_busy_us[lane];
    summary->predicted_lane_us[lane] += stats.predicted_lane_us[lane];
    for (int cause = 0; cause < kNumLanes; ++cause) {
      summary->lane_stall_us[lane][cause] += stats.lane_stall_us[lane][cause];
    }
  }
  summary->h2d_bytes += stats.h2d_bytes;
  summary->d2h_bytes += stats.d2h_bytes;
  summary->transfer_overlapped_us += stats.transfer_overlapped_us;
  summary->compute_overlapped_us += stats.compute_overlapped_us;
}

}  // namespace

BenchSummary SummarizeSteps(absl::Span<const BenchStep> steps, BenchWindow window) {
  int32_t peak = 0;
  for (const BenchStep& step : steps) peak = std::max(peak, step.stats.num_sequences);
  BenchSummary summary;
  std::vector<double> step_us;
  for (const BenchStep& step : steps) {
    if (!IsInWindow(step.stats, window, peak)) continue;
    Add(step, &summary);
    step_us.push_back(step.stats.step_us);
  }
  if (step_us.empty()) return summary;
  summary.kv_page_share_mean /= static_cast<double>(summary.num_steps);
  std::sort(step_us.begin(), step_us.end());
  summary.step_us_mean = summary.step_seconds / kSecondsPerMicrosecond / summary.num_steps;
  summary.step_us_p50 = Percentile(step_us, 0.50);
  summary.step_us_p95 = Percentile(step_us, 0.95);
  return summary;
}

void BenchRecorder::Begin(std::function<double()> kv_page_share,
                          std::function<void(const Totals&)> on_step) {
  on_step_ = std::move(on_step);
  MutexLock lock(&mutex_);
  kv_page_share_ = std::move(kv_page_share);
  last_time_ = Clock::now();
}

void BenchRecorder::EndSampling() {
  MutexLock lock(&mutex_);
  kv_page_share_ = nullptr;
}

void BenchRecorder::OnStep(const StepStats& stats) {
  const Clock::time_point now = Clock::now();
  Totals totals;
  {
    MutexLock lock(&mutex_);
    const double kv_page_share = kv_page_share_ ? kv_page_share_() : 0;
    steps_.push_back(
        {stats, std::chrono::duration<double>(now - last_time_).count(), kv_page_share});
    last_time_ = now;
    ++totals_.num_steps;
    totals_.num_generated_tokens += stats.num_generated_tokens;
    if (stats.num_sequences > totals_.peak_sequences) {
      totals_.peak_sequences = stats.num_sequences;
      totals_.num_full_steps = 1;
    } else if (IsFull(stats.num_sequences, totals_.peak_sequences)) {
      ++totals_.num_full_steps;
    }
    totals = totals_;
  }
  if (on_step_) on_step_(totals);
}

BenchRecorder::Totals BenchRecorder::totals() const {
  MutexLock lock(&mutex_);
  return totals_;
}

std::vector<BenchStep> BenchRecorder::steps() const {
  MutexLock lock(&mutex_);
  return steps_;
}

}  // namespace moelight
