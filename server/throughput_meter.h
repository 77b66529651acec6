// ThroughputMeter: how many tokens a second the engine computes, prompts and answers together.
//
// Threads: thread-safe; nothing blocks.
#ifndef MOELIGHT_SERVER_THROUGHPUT_METER_H_
#define MOELIGHT_SERVER_THROUGHPUT_METER_H_

#include "engine/base/mutex.h"
#include "engine/engine.h"

namespace moelight {

class ThroughputMeter {
 public:
  void SetPlan(const PlanInfo& plan);
  void OnStep(const StepStats& stats);

  // What the plan predicts; without a prediction, the rate of the last minutes in which steps ran;
  // 0 while there are too few of them.
  double tokens_per_s() const;

 private:
  mutable Mutex mutex_;
  double predicted_tokens_per_s_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of the last steps, older ones fading out.
  double recent_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  double recent_seconds_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_THROUGHPUT_METER_H_
