// Goal: the simulated backend runs the engine's own scheduler, plans and forward pass, gives the
// same times every time, and agrees with the planner's table of task costs, which is another way to
// say what each task does: in every step, with and without prompts.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr double kTolerance = 0.01;

EngineOptions OptionsFor(const HardwareProfile& profile, const std::string& model) {
  EngineOptions options;
  options.model = std::string(MOELIGHT_SOURCE_DIR "/tests/data/configs/") + model;
  options.hardware = std::make_shared<HardwareProfile>(profile);
  options.device = Engine::kSimulatedDevice;
  options.host_memory_bytes = 120 * kGiB;
  options.gpu_memory_bytes = profile.has_gpu() ? 15 * kGiB : 0;
  options.max_model_len = 1024;
  options.workload = {77, 418, 128};
  options.policy = "manual";
  options.max_running_sequences = 300;
  options.max_step_tokens = 4000;
  options.num_micro_batches = profile.has_gpu() ? 4 : 1;
  options.num_hidden_layers = 4;
  return options;
}

// Memory for everything at once. The predictor knows that lanes compete for the host's memory, the
// simulated machine does not.
HardwareProfile WithoutContention(HardwareProfile profile) {
  profile.host.shared_bytes_per_s = 1e15;
  return profile;
}

// Of all lengths up to 400, more than run at once.
std::vector<int32_t> MixedPrompts(int count) {
  std::vector<int32_t> lengths;
  for (int i = 0; i < count; ++i) lengths.push_back(1 + i * 37 % 400);
  return lengths;
}

struct Machine {
  const char* name;
  HardwareProfile (*profile)();
  const char* schedule;
  const char* expert_coalescing = "off";
};

constexpr Machine kMachines[] = {
    {"LargeCgopipe", LargeGpuProfile, "cgopipe"},
    {"LargeCgopipeGroups", LargeGpuProfile, "cgopipe", "on"},
    {"LargeFlexgen", LargeGpuProfile, "flexgen"},
    {"LargeFlexgenCpu", LargeGpuProfile, "flexgen_cpu"},
    {"LargeSerial", LargeGpuProfile, "serial"},
    {"SmallCgopipe", SmallGpuProfile, "cgopipe"},
    {"SmallCgopipeGroups", SmallGpuProfile, "cgopipe", "on"},
    {"SmallFlexgen", SmallGpuProfile, "flexgen"},
    {"HostSerial", HostOnlyProfile, "serial"},
};

class AgreementTest : public testing::TestWithParam<std::tuple<Machine, const char*>> {
 protected:
  EngineOptions Options() const {
    const auto& [machine, model] = GetParam();
    EngineOptions options = OptionsFor(WithoutContention(machine.profile()), model);
    options.schedule = machine.schedule;
    options.expert_coalescing = machine.expert_coalescing;
    return options;
  }
};

void ExpectLanesAgree(const SimulatedStep& step, size_t index) {
  for (int lane = 0; lane < kNumLanes; ++lane) {
    EXPECT_NEAR(step.lane_us[lane], step.predicted_lane_us[lane],
                kTolerance * step.predicted_lane_us[lane])
        << "step " << index << " of " << step.num_sequences << " sequences, "
        << LaneName(kAllLanes[lane]);
  }
}

// Prompts of all lengths ride along in many of the steps.
TEST_P(AgreementTest, InEveryStep) {
  const absl::StatusOr<SimulatedRun> run = Engine::Simulate(Options(), MixedPrompts(700), 40);
  ASSERT_TRUE(run.ok()) << run.status();
  int num_with_prompts = 0;
  ASSERT_EQ(run->steps.size(), static_cast<size_t>(run->num_steps));
  for (size_t i = 0; i < run->steps.size(); ++i) {
    const SimulatedStep& step = run->steps[i];
    ExpectLanesAgree(step, i);
    if (step.num_prompt_tokens > 0) ++num_with_prompts;
    // A step is predicted as one of many like it. Only the first has its weights not there yet.
    if (i == 0) continue;
    EXPECT_NEAR(step.us, step.predicted_us, kTolerance * step.predicted_us)
        << "step " << i << " of " << step.num_sequences << " sequences, prompts "
        << step.num_prompt_tokens;
  }
  EXPECT_GT(num_with_prompts, 10);
  EXPECT_LT(num_with_prompts, run->num_steps - 10);
}

TEST_P(AgreementTest, InAFullBatchThatDecodes) {
  const absl::StatusOr<SimulatedRun> run =
      Engine::Simulate(Options(), std::vector<int32_t>(300, 77), 64);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->peak_sequences, 300);
  EXPECT_EQ(run->num_prompt_tokens, 300 * 77);
  EXPECT_EQ(run->num_generated_tokens, 300 * 64);
  EXPECT_NEAR(run->decode_step_us / run->decode_predicted_us, 1, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(AllSchedules, AgreementTest,
                         testing::Combine(testing::ValuesIn(kMachines),
                                          testing::Values("mixtral-8x7b", "qwen3-30b-a3b")),
                         [](const testing::TestParamInfo<AgreementTest::ParamType>& info) {
                           return absl::StrCat(std::get<0>(info.param).name,
                                               absl::StartsWith(std::get<1>(info.param), "qwen3")
                                                   ? "Qwen3"
                                                   : "Mixtral");
                         });

// The whole model, on a machine whose lanes do compete.
TEST(SimulationTest, AgreesWithThePlanner) {
  for (const char* schedule : {"cgopipe", "flexgen", "flexgen_cpu", "serial"}) {
    EngineOptions options = OptionsFor(LargeGpuProfile(), "mixtral-8x7b");
    options.num_hidden_layers = 0;
    options.schedule = schedule;
    const absl::StatusOr<SimulatedRun> run =
        Engine::Simulate(options, std::vector<int32_t>(300, 77), 128);
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_NEAR(run->decode_step_us / run->decode_predicted_us, 1, kTolerance) << schedule;
  }
}

TEST(SimulationTest, IsTheSameEveryTime) {
  const EngineOptions options = OptionsFor(SmallGpuProfile(), "qwen3-30b-a3b");
  const absl::StatusOr<SimulatedRun> first = Engine::Simulate(options, MixedPrompts(400), 20);
  const absl::StatusOr<SimulatedRun> second = Engine::Simulate(options, MixedPrompts(400), 20);
  ASSERT_TRUE(first.ok() && second.ok()) << first.status();
  EXPECT_EQ(first->seconds, second->seconds);
  EXPECT_EQ(first->lane_busy_us, second->lane_busy_us);
  ASSERT_EQ(first->steps.size(), second->steps.size());
  for (size_t i = 0; i < first->steps.size(); ++i) {
    EXPECT_EQ(first->steps[i].us, second->steps[i].us) << "step " << i;
  }
}

TEST(SimulationTest, BooksAddUp) {
  const EngineOptions options = OptionsFor(SmallGpuProfile(), "mixtral-8x7b");
  const absl::StatusOr<SimulatedRun> run = Engine::Simulate(options, MixedPrompts(350), 10);
  ASSERT_TRUE(run.ok()) << run.status();
  int64_t num_tokens = 0;
  int32_t peak = 0;
  double us = 0;
  for (const SimulatedStep& step : run->steps) {
    num_tokens += step.num_generated_tokens;
    us += step.us;
    peak = std::max(peak, step.num_sequences);
  }
  EXPECT_EQ(run->num_generated_tokens, 350 * 10);
  EXPECT_EQ(num_tokens, 350 * 10);
  EXPECT_NEAR(run->seconds, us / 1e6, 1e-9);
  EXPECT_NEAR(run->tokens_per_s(), 3500 / run->seconds, 1e-6);
  EXPECT_EQ(run->peak_sequences, peak);
}

TEST(SimulationTest, WhatCannotRunIsRefused) {
  const EngineOptions options = OptionsFor(SmallGpuProfile(), "mixtral-8x7b");
  const absl::Status too_long = Engine::Simulate(options, {1000}, 100).status();
  EXPECT_EQ(too_long.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(too_long.message(), "limit of 1024")) << too_long;
  EXPECT_EQ(Engine::Simulate(options, {10}, 0).status().code(), absl::StatusCode::kInvalidArgument);
  EngineOptions unknown = options;
  unknown.hardware = nullptr;
  const absl::Status no_profile = Engine::Simulate(unknown, {10}, 10).status();
  EXPECT_EQ(no_profile.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(no_profile.message(), "hardware profile")) << no_profile;
  const absl::StatusOr<SimulatedRun> nothing = Engine::Simulate(options, {}, 10);
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_EQ(nothing->num_steps, 0);
  EXPECT_EQ(nothing->tokens_per_s(), 0);
}

}  // namespace
}  // namespace moelight
