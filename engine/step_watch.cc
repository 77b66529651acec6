#include "engine/step_watch.h"

#include <cmath>
#include <string>

#include <absl/strings/str_format.h>

namespace moelight {

void StepWatch::Observe(const StepStats& stats) {
  if (stats.predicted_wall_us <= 0) return;
  wall_us_ += stats.wall_us;
  predicted_wall_us_ += stats.predicted_wall_us;
  for (int lane = 0; lane < kNumLanes; ++lane) {
    lane_us_[lane] += stats.lane_busy_us[lane];
    predicted_lane_us_[lane] += stats.predicted_lane_us[lane];
  }
  if (++num_steps_ == kWindowSteps) EndWindow();
}

void StepWatch::EndWindow() {
  const double error = predicted_wall_us_ / wall_us_ - 1;
  if (std::abs(error) <= kTolerance) {
    num_windows_off_ = 0;
    next_warning_ = 1;
  } else if (++num_windows_off_ == next_warning_) {
    next_warning_ *= 2;
    Warn(error);
  }
  num_steps_ = 0;
  wall_us_ = 0;
  predicted_wall_us_ = 0;
  lane_us_ = {};
  predicted_lane_us_ = {};
}

void StepWatch::Warn(double error) {
  int furthest = 0;
  for (int lane = 1; lane < kNumLanes; ++lane) {
    if (std::abs(lane_us_[lane] - predicted_lane_us_[lane]) >
        std::abs(lane_us_[furthest] - predicted_lane_us_[furthest])) {
      furthest = lane;
    }
  }
  const auto ms = [](double us) { return absl::StrFormat("%.2f", us / kWindowSteps / 1e3); };
  logger_.Warning("step_prediction_off",
                  {{"error_percent", absl::StrFormat("%+.1f", 100 * error)},
                   {"step_ms", ms(wall_us_)},
                   {"predicted_step_ms", ms(predicted_wall_us_)},
                   {"lane", LaneName(kAllLanes[furthest])},
                   {"lane_ms", ms(lane_us_[furthest])},
                   {"predicted_lane_ms", ms(predicted_lane_us_[furthest])},
                   {"steps", kWindowSteps},
                   {"remedy", "if nothing else loads this machine, probe it again"}});
}

}  // namespace moelight
