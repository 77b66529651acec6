// Goal: predictions that stay off are warned of, rarely, with the lane that is to blame; what is
// near enough or was never predicted is not.
#include "engine/step_watch.h"

#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moelight {
namespace {

using nlohmann::json;

// A step that was predicted to take 10 ms, of which the link is busy for 8 and the GPU for 5.
StepStats Predicted(double wall_us) {
  StepStats stats;
  stats.wall_us = wall_us;
  stats.predicted_wall_us = 10'000;
  stats.predicted_lane_us = {5'000, 1'000, 8'000, 100};
  stats.lane_busy_us = stats.predicted_lane_us;
  return stats;
}

// What a watch that sees `write` logs, line by line.
std::vector<json> Logged(const std::function<void(StepWatch& watch)>& write) {
  testing::internal::CaptureStderr();
  {
    Logger logger(LogLevel::kInfo, LogFormat::kJson);
    StepWatch watch(logger);
    write(watch);
  }
  std::istringstream lines(testing::internal::GetCapturedStderr());
  std::vector<json> events;
  for (std::string line; std::getline(lines, line);) events.push_back(json::parse(line));
  return events;
}

void ObserveWindow(StepWatch& watch, const StepStats& stats) {
  for (int i = 0; i < StepWatch::kWindowSteps; ++i) watch.Observe(stats);
}

TEST(StepWatchTest, WarnsOfAWindowThatIsOff) {
  StepStats slow = Predicted(20'000);
  slow.lane_busy_us[static_cast<int>(Lane::kGpu)] += 1'000;
  slow.lane_busy_us[static_cast<int>(Lane::kHostToDevice)] += 9'000;
  const std::vector<json> events = Logged([&](StepWatch& watch) { ObserveWindow(watch, slow); });
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["event"], "step_prediction_off");
  EXPECT_EQ(events[0]["level"], "warning");
  EXPECT_EQ(events[0]["error_percent"], "-50.0");
  EXPECT_EQ(events[0]["step_ms"], "20.00");
  EXPECT_EQ(events[0]["predicted_step_ms"], "10.00");
  EXPECT_EQ(events[0]["lane"], "h2d");
  EXPECT_EQ(events[0]["lane_ms"], "17.00");
  EXPECT_EQ(events[0]["predicted_lane_ms"], "8.00");
  EXPECT_EQ(events[0]["steps"], StepWatch::kWindowSteps);
}

TEST(StepWatchTest, NamesTheLaneThatIsFurthestOff) {
  for (const Lane lane : kAllLanes) {
    for (const double factor : {0.1, 3.0}) {
      StepStats stats = Predicted(factor * 10'000);
      stats.predicted_lane_us = {5'000, 5'000, 5'000, 5'000};
      stats.lane_busy_us = {5'100, 4'900, 5'100, 4'900};
      stats.lane_busy_us[static_cast<int>(lane)] *= factor;
      const std::vector<json> events =
          Logged([&](StepWatch& watch) { ObserveWindow(watch, stats); });
      ASSERT_EQ(events.size(), 1u);
      EXPECT_EQ(events[0]["lane"], std::string(LaneName(lane))) << factor;
    }
  }
}

// Measured microseconds of windows of 10 ms predicted, and which of them are warned of.
struct Story {
  const char* name;
  std::vector<double> window_us;
  std::set<int> warned;  // windows, counted from 1
};

TEST(StepWatchTest, WarnsLessAndLessOftenWhileItStaysOff) {
  const std::vector<double> always_off(40, 15'000);
  std::vector<double> off_again(7, 15'000);
  off_again.push_back(10'000);
  off_again.insert(off_again.end(), 4, 5'000);
  const Story kStories[] = {
      {"near enough", std::vector<double>(10, 10'500), {}},
      {"just below the tolerance", {9'100, 11'100}, {}},
      {"just above the tolerance", {9'000}, {1}},
      {"too slow by more than a tenth", {11'200}, {1}},
      {"backs off", always_off, {1, 2, 4, 8, 16, 32}},
      {"begins anew after a good window", off_again, {1, 2, 4, 9, 10, 12}},
      {"now and then", {15'000, 10'000, 15'000, 10'000}, {1, 3}},
  };
  for (const Story& story : kStories) {
    std::set<int> warned;
    for (size_t num_windows = 1; num_windows <= story.window_us.size(); ++num_windows) {
      const auto events_of = [&story](size_t count) {
        return Logged([&](StepWatch& watch) {
                 for (size_t i = 0; i < count; ++i) {
                   ObserveWindow(watch, Predicted(story.window_us[i]));
                 }
               })
            .size();
      };
      if (events_of(num_windows) > events_of(num_windows - 1)) {
        warned.insert(static_cast<int>(num_windows));
      }
    }
    EXPECT_EQ(warned, story.warned) << story.name;
  }
}

TEST(StepWatchTest, LooksAtWholeWindows) {
  const StepStats slow = Predicted(30'000);
  EXPECT_TRUE(Logged([&](StepWatch& watch) {
                for (int i = 1; i < StepWatch::kWindowSteps; ++i) watch.Observe(slow);
              }).empty());
  // One outlier in a window is no reason.
  EXPECT_TRUE(Logged([&](StepWatch& watch) {
                watch.Observe(slow);
                for (int i = 1; i < StepWatch::kWindowSteps; ++i) watch.Observe(Predicted(10'000));
              }).empty());
}

TEST(StepWatchTest, StepsWithoutAPredictionArePassedOver) {
  StepStats unknown = Predicted(30'000);
  unknown.predicted_wall_us = 0;
  EXPECT_TRUE(Logged([&](StepWatch& watch) {
                for (int i = 0; i < 5; ++i) ObserveWindow(watch, unknown);
              }).empty());
  // They do not count as steps of a window either.
  EXPECT_TRUE(Logged([&](StepWatch& watch) {
                ObserveWindow(watch, unknown);
                for (int i = 1; i < StepWatch::kWindowSteps; ++i) watch.Observe(Predicted(30'000));
              }).empty());
}

}  // namespace
}  // namespace moelight
