#include "server/throughput_meter.h"

#include <algorithm>
#include <cmath>

namespace moelight {
namespace {

constexpr double kSecondsPerMicrosecond = 1e-6;
// Steps count less by a factor of e for so much time of later ones.
constexpr double kFadeSeconds = 120;
// A few steps while the batch is being filled say little.
constexpr double kEnoughSeconds = 10;

}  // namespace

void ThroughputMeter::SetPlan(const PlanInfo& plan) {
  if (!plan.prediction.has_value() || plan.prediction->workload.num_output_tokens <= 0) return;
  const WorkloadHint& workload = plan.prediction->workload;
  // The prediction counts generated tokens; the prompts in between took their part of the time.
  const double tokens_per_generated =
      1 + static_cast<double>(workload.mean_prompt_tokens) / workload.num_output_tokens;
  MutexLock lock(&mutex_);
  predicted_tokens_per_s_ = plan.prediction->tokens_per_s * tokens_per_generated;
}

void ThroughputMeter::OnStep(const StepStats& stats) {
  const double seconds = std::max(stats.step_us, stats.wall_us) * kSecondsPerMicrosecond;
  const double kept = std::exp(-seconds / kFadeSeconds);
  MutexLock lock(&mutex_);
  recent_tokens_ = kept * recent_tokens_ + stats.num_prefill_tokens + stats.num_decode_tokens;
  recent_seconds_ = kept * recent_seconds_ + seconds;
}

double ThroughputMeter::tokens_per_s() const {
  MutexLock lock(&mutex_);
  if (predicted_tokens_per_s_ > 0) return predicted_tokens_per_s_;
  return recent_seconds_ < kEnoughSeconds ? 0 : recent_tokens_ / recent_seconds_;
}

}  // namespace moelight
