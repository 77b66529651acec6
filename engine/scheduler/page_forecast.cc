#include "engine/scheduler/page_forecast.h"

#include <algorithm>

#include "engine/base/ceil_div.h"

namespace moelight {

void PageForecast::Begin(int32_t num_steps) {
  points_.clear();
  const int32_t num_points = std::min(kNumPoints, num_steps);
  const double in_use = static_cast<double>(kv_cache_.num_pages() - kv_cache_.num_free_pages());
  for (int32_t i = 1; i <= num_points; ++i) {
    points_.push_back({static_cast<int32_t>(CeilDiv(int64_t{num_steps} * i, num_points)), in_use});
  }
}

void PageForecast::AddChange(const Sequence& sequence, const LengthModel& lengths,
                             std::vector<Point>* points) const {
  const int64_t num_held = static_cast<int64_t>(sequence.block_table.size());
  const int64_t num_given_back = num_held - sequence.num_shared_pages;
  const int32_t num_left = sequence.max_tokens_total - sequence.num_tokens();
  for (Point& point : *points) {
    double survival = point.num_steps <= num_left ? 1 : 0;
    if (survival > 0 && !sequence.ends_at_max) {
      survival = lengths.Survival(sequence.num_generated_tokens(), point.num_steps);
    }
    const int64_t grown = kv_cache_.PagesFor(sequence.num_tokens() + point.num_steps);
    point.num_pages += survival * static_cast<double>(grown - num_held) -
                       (1 - survival) * static_cast<double>(num_given_back);
  }
}

bool PageForecast::TryAdd(const Sequence& sequence, const LengthModel& lengths, int64_t num_pages) {
  tried_ = points_;
  AddChange(sequence, lengths, &tried_);
  const bool fits = std::all_of(tried_.begin(), tried_.end(), [num_pages](const Point& point) {
    return point.num_pages <= static_cast<double>(num_pages);
  });
  if (fits) points_.swap(tried_);
  return fits;
}

}  // namespace moelight
