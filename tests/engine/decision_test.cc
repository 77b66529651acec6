// Goal: what is given is kept and what is left open is decided, by the planner if it knows the
// hardware and may, else by fixed values; a prediction is there whenever the hardware is known.
#include "engine/decision.h"

#include <memory>
#include <string>

#include <absl/strings/match.h>
#include <gtest/gtest.h>

#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

EngineOptions OptionsFor(const HardwareProfile& profile) {
  EngineOptions options;
  options.model = MOELIGHT_SOURCE_DIR "/tests/data/configs/mixtral-8x7b";
  options.hardware = std::make_shared<HardwareProfile>(profile);
  options.device = Engine::kSimulatedDevice;
  options.max_model_len = 1024;
  options.num_hidden_layers = 4;
  options.workload = {77, 418, 128};
  return options;
}

// The fixed values of a configuration that names none, as README.md has them.
void ExpectFixedValues(const EnginePlan& plan) {
  EXPECT_EQ(plan.scheduler.max_running_sequences, 256);
  EXPECT_EQ(plan.scheduler.max_step_tokens, 2048);
}

TEST(DecisionTest, AManualPolicyKeepsFixedValuesAndStillPredicts) {
  for (const HardwareProfile& profile : {SmallGpuProfile(), HostOnlyProfile()}) {
    EngineOptions options = OptionsFor(profile);
    options.policy = "manual";
    const absl::StatusOr<Decision> decision = Decide(options);
    ASSERT_TRUE(decision.ok()) << decision.status();
    ExpectFixedValues(decision->plan);
    EXPECT_EQ(decision->plan.schedule->name, profile.has_gpu() ? "cgopipe" : "serial");
    EXPECT_EQ(decision->options.weight_ring_percent, 150);
    ASSERT_TRUE(decision->prediction.has_value());
    EXPECT_GT(decision->prediction->tokens_per_s, 0);
    EXPECT_EQ(decision->prediction->num_sequences, 256);
    EXPECT_EQ(decision->prediction->hardware, profile.name);
    const PlanInfo info = Describe(*decision, /*pinned=*/true);
    EXPECT_EQ(info.max_running_sequences, 256);
    EXPECT_TRUE(info.prediction.has_value());
  }
}

TEST(DecisionTest, AnAutomaticPolicyIsAtLeastAsGood) {
  EngineOptions options = OptionsFor(SmallGpuProfile());
  const absl::StatusOr<Decision> chosen = Decide(options);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  options.policy = "manual";
  const absl::StatusOr<Decision> fixed = Decide(options);
  ASSERT_TRUE(fixed.ok()) << fixed.status();
  EXPECT_GT(chosen->prediction->tokens_per_s, fixed->prediction->tokens_per_s);
  // Nothing is left open, and what was chosen is what is built.
  EXPECT_EQ(chosen->options.max_running_sequences, chosen->plan.scheduler.max_running_sequences);
  EXPECT_EQ(chosen->options.max_step_tokens, chosen->plan.scheduler.max_step_tokens);
  EXPECT_EQ(chosen->options.num_micro_batches, chosen->plan.cut.num_micro_batches);
  EXPECT_EQ(chosen->options.schedule, chosen->plan.schedule->name);
  // Given again, all of that gives the same.
  EngineOptions again = chosen->options;
  again.policy = "manual";
  const absl::StatusOr<Decision> repeated = Decide(again);
  ASSERT_TRUE(repeated.ok()) << repeated.status();
  EXPECT_EQ(repeated->prediction->tokens_per_s, chosen->prediction->tokens_per_s);
  EXPECT_EQ(repeated->plan.kv_cache.num_pages, chosen->plan.kv_cache.num_pages);
}

TEST(DecisionTest, WithoutAProfileNothingIsChosenOrPredicted) {
  EngineOptions options = OptionsFor(HostOnlyProfile());
  options.hardware = nullptr;
  options.device = "reference";
  options.host_memory_bytes = 200 * kGiB;
  for (const char* policy : {"auto", "manual"}) {
    options.policy = policy;
    const absl::StatusOr<Decision> decision = Decide(options);
    ASSERT_TRUE(decision.ok()) << decision.status();
    ExpectFixedValues(decision->plan);
    EXPECT_FALSE(decision->prediction.has_value());
    EXPECT_EQ(decision->clock, nullptr);
    EXPECT_FALSE(Describe(*decision, false).prediction.has_value());
  }
}

// A profile may be of a machine that is there: its backend decides, the profile only predicts.
TEST(DecisionTest, ARealBackendIsPlannedForWithItsProfile) {
  EngineOptions options = OptionsFor(HostOnlyProfile());
  options.device = "reference";
  options.host_memory_bytes = 200 * kGiB;
  const absl::StatusOr<Decision> decision = Decide(options);
  ASSERT_TRUE(decision.ok()) << decision.status();
  EXPECT_EQ(decision->backend->name(), "reference");
  EXPECT_TRUE(decision->prediction.has_value());
  EXPECT_EQ(decision->plan.host_limit_bytes, 200 * kGiB);
}

TEST(DecisionTest, ASimulatedMachineHasTheMemoryOfItsProfile) {
  const absl::StatusOr<Decision> decision = Decide(OptionsFor(SmallGpuProfile()));
  ASSERT_TRUE(decision.ok()) << decision.status();
  EXPECT_EQ(decision->plan.host_limit_bytes, SmallGpuProfile().host.memory_bytes);
  EXPECT_LE(decision->plan.gpu_limit_bytes, SmallGpuProfile().gpu.memory_bytes);
  EXPECT_NE(decision->clock, nullptr);
  EXPECT_EQ(&decision->attention_backend(), decision->host_backend.get());
  const absl::StatusOr<Decision> host_only = Decide(OptionsFor(HostOnlyProfile()));
  ASSERT_TRUE(host_only.ok()) << host_only.status();
  EXPECT_EQ(&host_only->attention_backend(), host_only->backend.get());
}

// No sequence of the expected length fits into what max_model_len leaves room for.
TEST(DecisionTest, AWorkloadThatCannotRunIsNotPredicted) {
  EngineOptions options = OptionsFor(SmallGpuProfile());
  options.policy = "manual";
  options.max_running_sequences = 1;
  options.max_model_len = 32;
  const absl::StatusOr<Decision> decision = Decide(options);
  ASSERT_TRUE(decision.ok()) << decision.status();
  EXPECT_FALSE(decision->prediction.has_value());
}

struct Refusal {
  const char* name;
  void (*change)(EngineOptions& options);
  absl::StatusCode code;
  const char* message;
};

TEST(DecisionTest, WhatCannotBeIsRefused) {
  const Refusal kRefusals[] = {
      {"policy", [](EngineOptions& o) { o.policy = "best"; }, absl::StatusCode::kInvalidArgument,
       "engine.policy: \"best\" is not one of auto, manual"},
      {"no profile", [](EngineOptions& o) { o.hardware = nullptr; },
       absl::StatusCode::kInvalidArgument, "a simulated machine needs a hardware profile"},
      {"KV format", [](EngineOptions& o) { o.kv_format = "int3"; },
       absl::StatusCode::kInvalidArgument, "int3"},
      {"objective", [](EngineOptions& o) { o.objective = "glory"; },
       absl::StatusCode::kInvalidArgument, "engine.objective"},
      {"schedule", [](EngineOptions& o) { o.schedule = "fast"; },
       absl::StatusCode::kInvalidArgument, "cgopipe, serial, flexgen, flexgen_cpu"},
      {"model", [](EngineOptions& o) { o.model = MOELIGHT_SOURCE_DIR "/tests/data/none"; },
       absl::StatusCode::kNotFound, "none"},
      {"memory", [](EngineOptions& o) { o.host_memory_bytes = kGiB; },
       absl::StatusCode::kResourceExhausted, "engine.host_memory"},
  };
  for (const Refusal& refusal : kRefusals) {
    for (const char* policy : {"auto", "manual"}) {
      EngineOptions options = OptionsFor(SmallGpuProfile());
      options.policy = policy;
      refusal.change(options);
      // Nobody asks what a policy that is given is best in.
      if (refusal.name == std::string("objective") && options.policy == "manual") continue;
      const absl::Status status = Decide(options).status();
      EXPECT_EQ(status.code(), refusal.code) << refusal.name << ": " << status;
      EXPECT_TRUE(absl::StrContains(status.message(), refusal.message)) << status;
    }
  }
}

}  // namespace
}  // namespace moelight
