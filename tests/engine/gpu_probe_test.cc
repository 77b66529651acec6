// Goal: the probe of a GPU fills every figure from the ops of any backend with device memory, and
// takes no more memory than it may. How fast it is, is no matter of tests.
#include "engine/gpu_probe/gpu_probe.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/gpu_probe/device_turns.h"
#include "tests/testing/accelerator_double.h"

namespace moelight {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GpuProbeSpec TinySpec() {
  GpuProbeSpec spec;
  spec.turns = {.num_turns = 3, .warm_seconds = 0, .turn_seconds = 1e-4, .max_seconds = 0.05};
  spec.memory_bytes = int64_t{16} << 20;
  spec.cold_bytes = int64_t{1} << 16;
  spec.matmul_inputs = 64;
  spec.matmul_outputs = 96;
  spec.matmul_rows = {1, 4, 16};
  spec.experts = {{4, 2, 48, 32}, {8, 3, 32, 16}};
  spec.tokens_per_expert = {1, 6};
  spec.weight_page_bytes = 1024;  // experts lie across several
  spec.num_prompts = 2;
  spec.prompt_tokens = 9;
  spec.heads = {4, 2, 16};
  spec.page_tokens = 4;
  return spec;
}

std::vector<double> Sizes(const RateCurve& curve) {
  std::vector<double> sizes;
  for (const RateCurve::Point& point : curve.points) {
    EXPECT_TRUE(std::isfinite(point.rate) && point.rate > 0) << point.size;
    sizes.push_back(point.size);
  }
  return sizes;
}

TEST(GpuProbeTest, EveryFigureIsMeasured) {
  const std::unique_ptr<Backend> gpu = MakeAcceleratorDouble();
  std::vector<std::string> told;
  const absl::StatusOr<GpuProfile> profile =
      MeasureGpu(*gpu, TinySpec(), [&](absl::string_view text) { told.emplace_back(text); });
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->name, "double");
  EXPECT_EQ(profile->count, 1);
  EXPECT_EQ(profile->memory_bytes, gpu->free_device_bytes());
  EXPECT_GT(profile->memory_bytes_per_s, 0);
  EXPECT_GT(profile->launch_us, 0);
  EXPECT_GT(profile->attention_flops_per_s, 0);
  EXPECT_THAT(Sizes(profile->matmul_flops_per_s), ElementsAre(1, 4, 16));
  ASSERT_EQ(profile->experts.size(), 2u);
  EXPECT_EQ(profile->experts[0].hidden_size, 48);
  EXPECT_EQ(profile->experts[0].intermediate_size, 32);
  EXPECT_THAT(Sizes(profile->experts[0].flops_per_s), ElementsAre(1, 6));
  // 8 experts cannot get one token each from tokens that go to 3: three of them make 9 pairs.
  EXPECT_THAT(Sizes(profile->experts[1].flops_per_s), ElementsAre(9.0 / 8, 6));
  ASSERT_EQ(told.size(), 4u);
  for (const std::string& text : told) {
    EXPECT_THAT(text, HasSubstr("gpu: "));
    EXPECT_THAT(text, HasSubstr("turns differ by up to"));
  }
}

TEST(GpuProbeTest, WhatDoesNotFitIsCut) {
  const std::unique_ptr<Backend> gpu = MakeAcceleratorDouble();
  GpuProbeSpec spec = TinySpec();
  // A dense weight is 24 KiB and a row of its calls 640 bytes: 51 rows fit.
  spec.memory_bytes = 56 << 10;
  spec.matmul_rows = {1, 4, 64};
  // Half of the memory is for experts: one of the first layer's, which have 18 KiB each and of
  // which a token needs two, and four of the second's.
  spec.experts = {{4, 2, 48, 32}, {8, 2, 32, 16}};
  spec.tokens_per_expert = {1, 64, 1024};
  const absl::StatusOr<GpuProfile> profile = MeasureGpu(*gpu, spec, /*on_progress=*/nullptr);
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_THAT(Sizes(profile->matmul_flops_per_s), ElementsAre(1, 4));
  ASSERT_EQ(profile->experts.size(), 1u);
  EXPECT_EQ(profile->experts[0].hidden_size, 32);
  EXPECT_THAT(Sizes(profile->experts[0].flops_per_s), ElementsAre(1));

  spec.memory_bytes = 4096;
  const absl::Status too_little = MeasureGpu(*gpu, spec, nullptr).status();
  EXPECT_TRUE(absl::IsResourceExhausted(too_little)) << too_little;
  EXPECT_THAT(std::string(too_little.message()),
              HasSubstr("a weight of 96 x 64 does not fit the 4096 bytes"));
}

TEST(GpuProbeTest, TurnsEndWithTheFirstError) {
  const std::unique_ptr<Backend> gpu = MakeAcceleratorDouble();
  const std::unique_ptr<Stream> stream = gpu->CreateStream(Lane::kGpu);
  int num_calls = 0;
  const absl::StatusOr<DeviceTimes> times = MeasureOnDevice({}, *stream, [&]() -> absl::Status {
    return ++num_calls < 5 ? absl::OkStatus() : absl::DataLossError("no disk");
  });
  EXPECT_TRUE(absl::IsDataLoss(times.status())) << times.status();
  EXPECT_EQ(num_calls, 5);
}

}  // namespace
}  // namespace moelight
