// Goal: the points and rates of the hierarchical roofline model are those that its equations give
// by hand, and every roof of the chart lies above its points.
#include "engine/planner/roofline.h"

#include <algorithm>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

// GPU 100 Tflop/s and 1 TB/s, host 2 Tflop/s and 100 GB/s, link 20 GB/s.
constexpr RooflineLevels kLevels = {100e12, 1e12, 2e12, 100e9, 20e9};

TEST(RooflineTest, AttainableIsTheLowestRoof) {
  const struct {
    double host_intensity;
    double gpu_intensity;
    double on_host;
    double on_gpu;
  } kCases[] = {
      {1, 1000, 100e9, 20e9},       // the host's memory; the link
      {20, 1000, 2e12, 400e9},      // where the host's roofs meet
      {1000, 50, 2e12, 20e12},      // the host's operations; the link
      {10000, 50, 2e12, 50e12},     // the GPU's memory
      {10000, 1000, 2e12, 100e12},  // the GPU's operations
      {0, 0, 0, 0},
  };
  for (const auto& c : kCases) {
    EXPECT_DOUBLE_EQ(AttainableOnHost(kLevels, c.host_intensity), c.on_host) << c.host_intensity;
    EXPECT_DOUBLE_EQ(AttainableOnGpu(kLevels, c.gpu_intensity, c.host_intensity), c.on_gpu)
        << c.host_intensity << ", " << c.gpu_intensity;
  }
}

// Equation 9: B_ji * I_j = min(P_j, B_j * I_j). 2 Tflop/s / 20 GB/s.
TEST(RooflineTest, LeftOfP1TheHostIsFaster) {
  const double p1 = TurningPoint1(kLevels);
  EXPECT_DOUBLE_EQ(p1, 100);
  constexpr double kOfGpu = 1e6;  // high enough for nothing of the GPU to bind
  EXPECT_GT(AttainableOnHost(kLevels, 0.99 * p1), AttainableOnGpu(kLevels, kOfGpu, 0.99 * p1));
  EXPECT_LT(AttainableOnHost(kLevels, 1.01 * p1), AttainableOnGpu(kLevels, kOfGpu, 1.01 * p1));
  RooflineLevels fast_link = kLevels;
  fast_link.link_bytes_per_s = 100e9;
  EXPECT_EQ(TurningPoint1(fast_link), 0) << "the link is as fast as the host's memory";
  RooflineLevels no_link = kLevels;
  no_link.link_bytes_per_s = 0;
  EXPECT_EQ(TurningPoint1(no_link), 0);
}

// Equation 10: B_ji * I_j = min(P_i, B_i * I_i).
TEST(RooflineTest, LeftOfP2TheLinkBinds) {
  EXPECT_DOUBLE_EQ(TurningPoint2(kLevels, 10), 500);     // 10 Tflop/s / 20 GB/s
  EXPECT_DOUBLE_EQ(TurningPoint2(kLevels, 100), 5000);   // where the GPU's roofs meet
  EXPECT_DOUBLE_EQ(TurningPoint2(kLevels, 1000), 5000);  // 100 Tflop/s / 20 GB/s
  for (const double gpu_intensity : {10.0, 100.0, 1000.0}) {
    const double p2 = TurningPoint2(kLevels, gpu_intensity);
    const double beyond = AttainableOnGpu(kLevels, gpu_intensity, 2 * p2);
    EXPECT_DOUBLE_EQ(AttainableOnGpu(kLevels, gpu_intensity, p2), beyond);
    EXPECT_LT(AttainableOnGpu(kLevels, gpu_intensity, 0.99 * p2), beyond);
  }
}

// Equation 11: B_i * I_i = B_ji * I_j, and I_j = n * I_i with n micro-batches.
TEST(RooflineTest, BalanceIsWhereMemoryAndLinkTakeAsLong) {
  EXPECT_DOUBLE_EQ(BalancedMicroBatches(kLevels), 50);
}

TEST(RooflineTest, LevelsAreThePeaksOfAllGpus) {
  HardwareProfile profile = SmallGpuProfile();
  const RooflineLevels one = LevelsOf(profile);
  EXPECT_DOUBLE_EQ(one.gpu_flops_per_s, 30e12);
  EXPECT_DOUBLE_EQ(one.gpu_bytes_per_s, 250e9);
  EXPECT_DOUBLE_EQ(one.host_flops_per_s, 20e12);
  EXPECT_DOUBLE_EQ(one.host_bytes_per_s, 140e9);
  EXPECT_DOUBLE_EQ(one.link_bytes_per_s, 12.5e9);
  profile.gpu.count = 4;
  profile.gpu.experts[1].flops_per_s = {{{1, 40e12}, {64, 35e12}}};
  const RooflineLevels four = LevelsOf(profile);
  EXPECT_DOUBLE_EQ(four.gpu_flops_per_s, 160e12);
  EXPECT_DOUBLE_EQ(four.gpu_bytes_per_s, 1e12);
  EXPECT_DOUBLE_EQ(four.host_flops_per_s, 20e12);
  EXPECT_DOUBLE_EQ(four.link_bytes_per_s, 50e9);
}

// A step of 10 ms: the GPU is busy for 4 of them, the CPU for 6.
StepPrediction TenMilliseconds() {
  StepPrediction step;
  step.step_us = 10'000;
  step.busy_us[static_cast<int>(Lane::kGpu)] = 4'000;
  step.busy_us[static_cast<int>(Lane::kCpu)] = 6'000;
  step.gpu_flops = 20e9;
  step.gpu_bytes = 0.5e9;
  step.cpu_flops = 1e9;
  step.cpu_bytes = 0.5e9;
  step.h2d_bytes = 0.1e9;
  return step;
}

TEST(RooflineTest, ChartHasAPointForWhatEachResourceDoes) {
  const RooflineChart chart = MakeRooflineChart(SmallGpuProfile(), TenMilliseconds(), 4);
  ASSERT_EQ(chart.roofs.size(), 3u);
  ASSERT_EQ(chart.points.size(), 3u);
  std::map<std::string, RooflineChart::Point> points;
  for (const RooflineChart::Point& point : chart.points) points[point.name] = point;
  const struct {
    const char* name;
    double flop_per_byte;
    double flops_per_s;
  } kExpected[] = {{"attention on the host", 2, 1e9 / 6e-3},
                   {"layers on the GPU, 4 micro-batches", 40, 20e9 / 4e-3},
                   {"whole step, per byte over the link", 200, 20e9 / 10e-3}};
  for (const auto& expected : kExpected) {
    ASSERT_TRUE(points.contains(expected.name)) << expected.name;
    EXPECT_DOUBLE_EQ(points[expected.name].flop_per_byte, expected.flop_per_byte);
    EXPECT_DOUBLE_EQ(points[expected.name].flops_per_s, expected.flops_per_s);
  }
  std::map<std::string, double> turns;
  for (const auto& turn : chart.turns) turns[turn.name] = turn.flop_per_byte;
  EXPECT_DOUBLE_EQ(turns["P1"], 20e12 / 12.5e9);
  EXPECT_DOUBLE_EQ(turns["P2"], 250e9 * 40 / 12.5e9);
  EXPECT_DOUBLE_EQ(turns["balance"], 20 * 40);
}

TEST(RooflineTest, WithoutAGpuThereIsOneRoofAndNoTurn) {
  const RooflineChart chart = MakeRooflineChart(HostOnlyProfile(), TenMilliseconds(), 1);
  EXPECT_EQ(chart.roofs.size(), 1u);
  EXPECT_EQ(chart.points.size(), 2u);
  EXPECT_TRUE(chart.turns.empty());
}

}  // namespace
}  // namespace moelight
