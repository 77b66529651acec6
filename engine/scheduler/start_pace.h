// StartPace: how many answers of one length the full cache would start in a step.
//
// Answers that start together and get equally long end together, and then the cache stands half
// empty until the prompts of the next ones have been computed, wave after wave. Started at the pace
// at which the full cache ends them, they are of all ages at any time: the mean context, not the
// longest, decides how many run.
//
// Threads: engine thread. Does not allocate. No errors.
#ifndef MOELIGHT_ENGINE_SCHEDULER_START_PACE_H_
#define MOELIGHT_ENGINE_SCHEDULER_START_PACE_H_

#include <cstdint>

#include <absl/types/span.h>

#include "engine/memory/kv_cache.h"
#include "engine/scheduler/sequence.h"

namespace moelight {

class StartPace {
 public:
  // Full: `max_running_sequences` run, or no page of `kv_cache` is free.
  StartPace(const KvCache& kv_cache, int32_t max_running_sequences)
      : kv_cache_(kv_cache), max_running_sequences_(max_running_sequences) {}

  // `running`: what decides whether to keep a pace pays.
  void BeginStep(absl::Span<Sequence* const> running);
  bool pays() const { return pays_; }
  // Whether it does, and most answers like this one get as long as they may, and so end together
  // if they start together.
  bool AppliesTo(const Sequence& sequence) const;
  // Whether one more may start in this step.
  bool has_room() const { return num_page_steps_ > 0 && num_place_steps_ > 0; }
  // `sequence` starts, or goes on after it was put back.
  void Started(const Sequence& sequence);
  // It has ended, or is put back: gives back what it does not use.
  void Stopped(const Sequence& sequence);

 private:
  // Of its own, from `num_tokens` to its end, with the last page half full.
  double MeanPages(const Sequence& sequence, int32_t num_tokens) const;

  const KvCache& kv_cache_;
  const int32_t max_running_sequences_;
  // Pages and places, each for a step, that are still to be given out; below 0: given out before.
  double num_page_steps_ = 0;
  double num_place_steps_ = 0;
  bool pays_ = true;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_START_PACE_H_
