// Goal: the probe's rates are those of the copies it was asked to time, and a machine without a
// device says so.
#include "engine/link_probe.h"

#include <memory>

#include <gtest/gtest.h>

#include "tests/testing/accelerator_double.h"

namespace moelight {
namespace {

// Backends whose copies go from memory to memory, which is all that the probe asks of a device: one
// that is done with a copy when it returns, and one that only queues it.
class LinkProbeTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Backend> MakeBackend() {
    if (GetParam()) return MakeAcceleratorDouble();
    return *CreateBackend("cpu", {.num_threads = 1, .isa = ""});
  }
};

TEST_P(LinkProbeTest, RowsAreTheSizesThatFitTheRegion) {
  const std::unique_ptr<Backend> backend = MakeBackend();
  WidestSpread widest;
  const absl::StatusOr<LinkRates> rates = MeasureLink(
      *backend, {.region_bytes = 5 << 20, .warm_seconds = 1e-3, .turn_seconds = 1e-3}, &widest);
  ASSERT_TRUE(rates.ok()) << rates.status();
  EXPECT_GT(widest.relative(), 0);
  ASSERT_EQ(rates->rows.size(), 3u);
  int64_t copy_bytes = 256 << 10;
  for (const LinkRates::Row& row : rates->rows) {
    EXPECT_EQ(row.copy_bytes, copy_bytes);
    copy_bytes *= 4;
    EXPECT_GT(row.h2d_bytes_per_s, 0);
    EXPECT_GT(row.d2h_bytes_per_s, 0);
    EXPECT_GT(row.both_bytes_per_s, 0);
  }
}

TEST_P(LinkProbeTest, TheRegionLeavesHalfOfWhatMayBeTaken) {
  const std::unique_ptr<Backend> backend = MakeBackend();
  LinkProbeSpec spec;
  spec.gpu_memory_bytes = 16 << 20;
  spec.warm_seconds = spec.turn_seconds = 1e-3;
  const absl::StatusOr<LinkRates> rates = MeasureLink(*backend, spec, /*widest=*/nullptr);
  ASSERT_TRUE(rates.ok()) << rates.status();
  // Two regions of 4 MiB, or of the least where there is no device memory at all.
  EXPECT_EQ(rates->rows.back().copy_bytes, backend->has_device_memory() ? 4 << 20 : 1 << 20);
}

TEST_P(LinkProbeTest, ASmallCopyTakesTime) {
  const std::unique_ptr<Backend> backend = MakeBackend();
  const absl::StatusOr<Spread> seconds = MeasureCopyLatency(*backend);
  ASSERT_TRUE(seconds.ok()) << seconds.status();
  EXPECT_GT(seconds->min, 0);
  EXPECT_LT(seconds->median, 0.1);
}

TEST_P(LinkProbeTest, PagesOfAnySizeAreTimed) {
  const std::unique_ptr<Backend> backend = MakeBackend();
  for (const int64_t page_bytes : {int64_t{256}, int64_t{16} << 20, int64_t{1} << 30}) {
    const absl::StatusOr<double> rate = ProbeHostToDevice(*backend, page_bytes);
    ASSERT_TRUE(rate.ok()) << rate.status();
    EXPECT_GT(*rate, 0) << page_bytes;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LinkProbeTest, ::testing::Bool(), [](const auto& info) {
  return info.param ? "accelerator_double" : "cpu";
});

TEST(ProbeLinkTest, WithoutADeviceThereIsNoLink) {
  EngineOptions options;
  options.device = "cpu";
  EXPECT_TRUE(absl::IsFailedPrecondition(Engine::ProbeLink(options).status()));
  options.device = "abacus";
  EXPECT_TRUE(absl::IsInvalidArgument(Engine::ProbeLink(options).status()));
}

TEST(DescribeTest, ModelIsDescribedWithoutLoadingIt) {
  EngineOptions options;
  options.model = MOELIGHT_SOURCE_DIR "/tests/data/configs/mixtral-8x7b";
  const absl::StatusOr<ModelInfo> whole = Engine::Describe(options);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->name, "mixtral-8x7b");
  EXPECT_EQ(whole->num_parameters, 46'702'792'704);
  EXPECT_EQ(whole->max_model_len, 32768);
  EXPECT_FALSE(whole->has_chat_template);
  options.num_hidden_layers = 8;
  options.max_model_len = 100;
  const absl::StatusOr<ModelInfo> cut = Engine::Describe(options);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(cut->max_model_len, 100);
  // A layer has 1.45 billion parameters.
  EXPECT_NEAR(whole->num_parameters - cut->num_parameters, 24 * 1.4511e9, 24 * 1e6);
  options.num_hidden_layers = 33;
  EXPECT_EQ(Engine::Describe(options).status().message(),
            "33 layers are asked for, the model has 1 to 32");
}

}  // namespace
}  // namespace moelight
