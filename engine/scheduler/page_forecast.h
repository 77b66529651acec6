// PageForecast: how many KV pages will be in use in the steps to come, as the running sequences
// grow and end.
//
// Expected values at a few points of a horizon: a sequence that is still there has grown by one
// token a step, one that has ended has given back what only it used. One beyond its limit has
// ended.
//
// Threads: engine thread. Keeps its capacity. No errors.
#ifndef MOELIGHT_ENGINE_SCHEDULER_PAGE_FORECAST_H_
#define MOELIGHT_ENGINE_SCHEDULER_PAGE_FORECAST_H_

#include <cstdint>
#include <vector>

#include "engine/memory/kv_cache.h"
#include "engine/scheduler/length_model.h"
#include "engine/scheduler/sequence.h"

namespace moelight {

class PageForecast {
 public:
  explicit PageForecast(const KvCache& kv_cache) : kv_cache_(kv_cache) {}

  // Starts over from the pages in use now, for the next `num_steps` steps.
  void Begin(int32_t num_steps);
  // Counts a sequence that has pages.
  void Add(const Sequence& sequence, const LengthModel& lengths) {
    AddChange(sequence, lengths, &points_);
  }
  // Counts one that has at most shared pages, if that leaves no point above `num_pages`.
  bool TryAdd(const Sequence& sequence, const LengthModel& lengths, int64_t num_pages);

 private:
  struct Point {
    int32_t num_steps = 0;
    double num_pages = 0;
  };
  // A few: between them demand is nearly a straight line, except where many sequences end at once.
  static constexpr int32_t kNumPoints = 16;

  void AddChange(const Sequence& sequence, const LengthModel& lengths,
                 std::vector<Point>* points) const;

  const KvCache& kv_cache_;
  std::vector<Point> points_;
  std::vector<Point> tried_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_PAGE_FORECAST_H_
