// StepWatch: compares what steps took with what was predicted, and tells when they part.
//
// Threads: the engine's.
#ifndef MOELIGHT_ENGINE_STEP_WATCH_H_
#define MOELIGHT_ENGINE_STEP_WATCH_H_

#include <array>
#include <cstdint>

#include "engine/base/lane.h"
#include "engine/base/logger.h"
#include "engine/engine.h"

namespace moelight {

class StepWatch {
 public:
  // Steps that are looked at together: one alone may be off for many reasons.
  static constexpr int kWindowSteps = 32;
  // Part of the measured time by which the prediction may be off.
  static constexpr double kTolerance = 0.10;

  explicit StepWatch(Logger& logger) : logger_(logger) {}

  // Steps without a prediction are passed over. Warns after a window that is off, naming the lane
  // whose time is furthest from its prediction; if it stays so, again after 2, 4, 8 ... windows.
  void Observe(const StepStats& stats);

 private:
  void EndWindow();
  void Warn(double error);

  Logger& logger_;
  int num_steps_ = 0;
  double wall_us_ = 0;
  double predicted_wall_us_ = 0;
  std::array<double, kNumLanes> lane_us_ = {};
  std::array<double, kNumLanes> predicted_lane_us_ = {};
  int64_t num_windows_off_ = 0;  // in a row
  int64_t next_warning_ = 1;     // when that many were
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_STEP_WATCH_H_
