// Goal: the rate that ends are estimated with is the plan's, else that of the last minutes.
#include "server/throughput_meter.h"

#include <gtest/gtest.h>

namespace moelight {
namespace {

StepStats Step(int32_t num_prefill, int32_t num_decode, double seconds) {
  StepStats stats;
  stats.num_prefill_tokens = num_prefill;
  stats.num_decode_tokens = num_decode;
  stats.step_us = seconds * 1e6;
  return stats;
}

TEST(ThroughputMeterTest, ThePlansRateCountsPromptsToo) {
  ThroughputMeter meter;
  EXPECT_EQ(meter.tokens_per_s(), 0);
  PlanInfo plan;
  meter.SetPlan(plan);
  EXPECT_EQ(meter.tokens_per_s(), 0);
  plan.prediction.emplace();
  plan.prediction->workload = {.mean_prompt_tokens = 300, .num_output_tokens = 100};
  plan.prediction->tokens_per_s = 50;
  meter.SetPlan(plan);
  EXPECT_EQ(meter.tokens_per_s(), 200);
  for (int i = 0; i < 100; ++i) meter.OnStep(Step(0, 1, 1));
  EXPECT_EQ(meter.tokens_per_s(), 200);
}

TEST(ThroughputMeterTest, AFewSecondsSayNothing) {
  ThroughputMeter meter;
  for (int i = 0; i < 9; ++i) meter.OnStep(Step(10, 10, 1));
  EXPECT_EQ(meter.tokens_per_s(), 0);
  for (int i = 0; i < 3; ++i) meter.OnStep(Step(10, 10, 1));
  EXPECT_NEAR(meter.tokens_per_s(), 20, 1e-9);
}

TEST(ThroughputMeterTest, WhatWasLongAgoIsForgotten) {
  ThroughputMeter meter;
  for (int i = 0; i < 600; ++i) meter.OnStep(Step(0, 1000, 1));
  EXPECT_NEAR(meter.tokens_per_s(), 1000, 1e-6);
  for (int i = 0; i < 120; ++i) meter.OnStep(Step(0, 100, 1));
  EXPECT_NEAR(meter.tokens_per_s(), 100 + 900 / 2.718, 5);
  for (int i = 0; i < 1200; ++i) meter.OnStep(Step(0, 100, 1));
  EXPECT_NEAR(meter.tokens_per_s(), 100, 1);
}

// One long step counts as much as many short ones.
TEST(ThroughputMeterTest, AStepOfManyMinutesCounts) {
  ThroughputMeter meter;
  meter.OnStep(Step(0, 1000, 1));
  meter.OnStep(Step(600, 0, 1200));
  EXPECT_NEAR(meter.tokens_per_s(), 0.5, 0.01);
}

}  // namespace
}  // namespace moelight
