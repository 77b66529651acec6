// Goal: a probe leaves no figure of the profile out, with a GPU and without, and its fingerprint is
// that of the machine and of what the configuration makes of it.
#include "engine/hardware_probe.h"

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/machine_identity.h"
#include "tests/testing/accelerator_double.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

EngineOptions TwoThreads() {
  EngineOptions options;
  options.device = "cpu";
  options.cpu_threads = 2;
  return options;
}

// Small enough for a test; far too small to say anything about the machine.
HardwareProbeSpec TinySpec() {
  HardwareProbeSpec spec;
  spec.host.turn_seconds = 1e-3;
  spec.host.memory_bytes = int64_t{4} << 20;
  spec.host.num_attention_heads = 4;
  spec.host.num_key_value_heads = {4, 1};
  spec.host.head_dim = 32;
  spec.host.batch = 2;
  spec.host.contexts = {16, 40};
  spec.host.experts = {{48, 80}, {4096, 14336}};  // the second does not fit the memory
  spec.host.expert_tokens = {1, 5};
  spec.host.vocab_size = 1000;
  spec.link = {.region_bytes = 4 << 20, .warm_seconds = 1e-3, .turn_seconds = 1e-3};
  spec.gpu.turns = {.num_turns = 3, .warm_seconds = 0, .turn_seconds = 1e-4, .max_seconds = 0.05};
  spec.gpu.memory_bytes = int64_t{4} << 20;
  spec.gpu.matmul_inputs = 32;
  spec.gpu.matmul_outputs = 48;
  spec.gpu.matmul_rows = {1, 4};
  spec.gpu.experts = {{4, 2, 48, 32}};
  spec.gpu.tokens_per_expert = {1, 4};
  spec.gpu.weight_page_bytes = 1024;
  spec.gpu.num_prompts = 2;
  spec.gpu.prompt_tokens = 4;
  spec.gpu.heads = {4, 2, 16};
  return spec;
}

void ExpectCurve(const RateCurve& curve, size_t num_points) {
  EXPECT_EQ(curve.points.size(), num_points);
  double last_size = 0;
  for (const RateCurve::Point& point : curve.points) {
    EXPECT_GT(point.rate, 0);
    EXPECT_GT(point.size, last_size);
    last_size = point.size;
  }
}

void ExpectHost(const HostProfile& host) {
  EXPECT_THAT(host.name, HasSubstr("2 threads of "));
  EXPECT_EQ(host.num_threads, 2);
  EXPECT_GT(host.memory_bytes, 0);
  EXPECT_TRUE(host.pinnable_bytes >= -1) << host.pinnable_bytes;
  ExpectCurve(host.read_bytes_per_s_by_threads, 2);
  EXPECT_EQ(host.read_bytes_per_s, host.read_bytes_per_s_by_threads.points.back().rate);
  EXPECT_GT(host.shared_bytes_per_s, 0);
  EXPECT_GT(host.peak_flops_per_s, 0);
  EXPECT_GT(host.sample_bytes_per_s, 0);
  ASSERT_EQ(host.attention.size(), 4u);
  EXPECT_EQ(host.attention[0].kv_format, "bf16");
  EXPECT_EQ(host.attention[1].group_size, 4);
  EXPECT_EQ(host.attention[3].kv_format, "int8");
  for (const HostAttentionRate& rate : host.attention) ExpectCurve(rate.bytes_per_s, 2);
  ASSERT_EQ(host.experts.size(), 1u);
  EXPECT_EQ(host.experts[0].hidden_size, 48);
  EXPECT_EQ(host.experts[0].intermediate_size, 80);
  ExpectCurve(host.experts[0].flops_per_s, 2);
}

TEST(HardwareProbeTest, AMachineWithAGpu) {
  const std::unique_ptr<Backend> gpu = MakeAcceleratorDouble();
  std::vector<std::string> told;
  const absl::StatusOr<HardwareProfile> profile = MeasureHardware(
      TwoThreads(), TinySpec(), *gpu, [&told](absl::string_view text) { told.emplace_back(text); });
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_THAT(profile->name, HasSubstr(", double"));
  EXPECT_THAT(profile->source, MatchesRegex("probed 20[0-9][0-9]-[01][0-9]-[0-3][0-9]"));
  EXPECT_EQ(profile->fingerprint, *FingerprintOf(TwoThreads(), *gpu));
  ExpectHost(profile->host);
  EXPECT_TRUE(profile->has_gpu());
  ExpectCurve(profile->gpu.matmul_flops_per_s, 2);
  ExpectCurve(profile->link.h2d_bytes_per_s, 3);
  ExpectCurve(profile->link.d2h_bytes_per_s, 3);
  EXPECT_GT(profile->link.both_bytes_per_s, 0);
  EXPECT_GT(profile->link.latency_us, 0);
  EXPECT_TRUE(ValidateHardwareProfile(*profile).ok());
  ASSERT_EQ(told.size(), 4u + 1 + 5);
  for (const std::string& text : told) EXPECT_THAT(text, HasSubstr("turns differ by up to"));
}

TEST(HardwareProbeTest, AMachineWithoutOne) {
  const std::unique_ptr<Backend> cpu = *CreateBackend("cpu", {.num_threads = 1, .isa = ""});
  const absl::StatusOr<HardwareProfile> profile =
      MeasureHardware(TwoThreads(), TinySpec(), *cpu, /*on_progress=*/nullptr);
  ASSERT_TRUE(profile.ok()) << profile.status();
  ExpectHost(profile->host);
  EXPECT_EQ(profile->host.shared_bytes_per_s, profile->host.read_bytes_per_s);
  EXPECT_FALSE(profile->has_gpu());
  EXPECT_TRUE(profile->link.h2d_bytes_per_s.empty());
  EXPECT_TRUE(ValidateHardwareProfile(*profile).ok());
}

TEST(HardwareFingerprintTest, ChangesWithWhatTheProfileDependsOn) {
  EngineOptions options = TwoThreads();
  const absl::StatusOr<std::string> first = Engine::HardwareFingerprint(options);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(*first, MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(first->size(), 16u);
  EXPECT_EQ(*first, *Engine::HardwareFingerprint(options));
  EXPECT_NE(*first, *FingerprintOf(options, *MakeAcceleratorDouble()));
  options.cpu_isa = "avx2";
  EXPECT_NE(*first, *Engine::HardwareFingerprint(options));
  options = TwoThreads();
  options.cpu_threads = 1;
  EXPECT_NE(*first, *Engine::HardwareFingerprint(options));
  options.device = "abacus";
  EXPECT_TRUE(absl::IsInvalidArgument(Engine::HardwareFingerprint(options).status()));
}

TEST(HardwareFingerprintTest, FactsDoNotRunIntoEachOther) {
  // FNV-1a of one newline.
  EXPECT_EQ(HashFacts({""}), "af63c74c8601c8dd");
  EXPECT_NE(HashFacts({"ab", "c"}), HashFacts({"a", "bc"}));
  EXPECT_NE(HashFacts({"a", ""}), HashFacts({"a"}));
}

}  // namespace
}  // namespace moelight
