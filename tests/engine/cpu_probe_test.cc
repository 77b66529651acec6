// Goal: the probes of kernels run what they say, count its bytes and operations right, and refuse
// what cannot be. How fast it is, is no matter of tests.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/backend/cpu/isa.h"
#include "engine/cpu_probe/attention_probe.h"
#include "engine/cpu_probe/copy_load.h"
#include "engine/cpu_probe/expert_probe.h"
#include "engine/engine.h"
#include "tests/testing/accelerator_double.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;

// Small enough for a test; far too small to say anything about memory.
CpuProbeOptions TinyOptions() {
  CpuProbeOptions options;
  options.threads.num_threads = 2;
  options.memory_bytes = 4 * kMiB;
  options.turn_seconds = 1e-3;
  return options;
}
AttentionProbeSpec TinyAttention() {
  AttentionProbeSpec spec;
  spec.shapes = {{40, 3}, {1, 1}};
  spec.num_attention_heads = 4;
  spec.num_key_value_heads = 2;
  spec.head_dim = 32;
  return spec;
}
ExpertProbeSpec TinyExpert() {
  return {.tokens = {1, 5}, .hidden_size = 48, .intermediate_size = 80};
}

size_t NumIsas() {
  size_t num_isas = 0;
  for (const CpuIsa& isa : CpuIsas()) num_isas += isa.supported() ? 1 : 0;
  return num_isas;
}

void ExpectSane(const Spread& spread) {
  EXPECT_TRUE(std::isfinite(spread.max));
  EXPECT_GT(spread.min, 0);
  EXPECT_LE(spread.min, spread.median);
  EXPECT_LE(spread.median, spread.max);
}

void ExpectSane(const KernelRate& rate) {
  ExpectSane(rate.seconds);
  ExpectSane(rate.read_bytes_per_s);
  ExpectSane(rate.peak_flops_per_s);
  ExpectSane(rate.roof_share);
}

TEST(CpuProbeTest, AttentionCountsTheKeysOfAllSequences) {
  // Mixtral's heads: 4 KiB of K and V for each position.
  const AttentionProbeSpec mixtral;
  EXPECT_EQ(AttentionProbeBytes(mixtral, {8192, 64}), int64_t{8192} * 64 * 4096);
  EXPECT_EQ(AttentionProbeFlops(mixtral, {8192, 64}), int64_t{8192} * 64 * 32 * 128 * 4);

  std::vector<AttentionRate> seen;
  const absl::StatusOr<AttentionRates> rates =
      MeasureAttention(TinyAttention(), TinyOptions(), /*copies=*/nullptr,
                       [&seen](const AttentionRate& rate) { seen.push_back(rate); });
  ASSERT_TRUE(rates.ok()) << rates.status();
  ASSERT_EQ(rates->rows.size(), 2 * NumIsas());
  EXPECT_EQ(seen.size(), rates->rows.size());
  EXPECT_EQ(rates->info.num_threads, 2);
  EXPECT_LE(rates->info.memory_bytes, 4 * kMiB);
  for (const AttentionRate& row : rates->rows) {
    EXPECT_EQ(row.rate.bytes, int64_t{row.shape.context} * row.shape.batch * 2 * 2 * 32 * 2);
    EXPECT_EQ(row.rate.flops, int64_t{row.shape.context} * row.shape.batch * 4 * 32 * 4);
    EXPECT_FALSE(row.rate.beside_copy.has_value());
    ExpectSane(row.rate);
  }
}

TEST(CpuProbeTest, AnExpertIsReadOnceWhateverTheTokens) {
  const ExpertProbeSpec mixtral;
  EXPECT_EQ(ExpertProbeBytes(mixtral), int64_t{3} * 4096 * 14336 * 2);
  EXPECT_EQ(ExpertProbeFlops(mixtral, 7), int64_t{7} * 6 * 4096 * 14336);

  CpuProbeOptions options = TinyOptions();
  options.isa = std::string((*ChooseCpuIsa(""))->name);
  const absl::StatusOr<ExpertRates> rates =
      MeasureExperts(TinyExpert(), options, /*copies=*/nullptr, /*on_row=*/nullptr);
  ASSERT_TRUE(rates.ok()) << rates.status();
  ASSERT_EQ(rates->rows.size(), 2u);
  for (const ExpertRate& row : rates->rows) {
    EXPECT_EQ(row.rate.isa, options.isa);
    EXPECT_EQ(row.rate.bytes, int64_t{3} * 48 * 80 * 2);
    EXPECT_EQ(row.rate.flops, row.tokens * 6 * 48 * 80);
    ExpectSane(row.rate);
  }
}

TEST(CpuProbeTest, CopiesRunBesideTheKernel) {
  const std::unique_ptr<Backend> device = MakeAcceleratorDouble();
  const absl::StatusOr<std::unique_ptr<CopyLoad>> copies = CopyLoad::Create(*device);
  ASSERT_TRUE(copies.ok()) << copies.status();
  CpuProbeOptions options = TinyOptions();
  options.isa = std::string((*ChooseCpuIsa(""))->name);
  options.turn_seconds = 0.02;  // time for the copying thread to come
  ExpertProbeSpec spec = TinyExpert();
  spec.tokens = {2};
  const absl::StatusOr<ExpertRates> rates =
      MeasureExperts(spec, options, copies->get(), /*on_row=*/nullptr);
  ASSERT_TRUE(rates.ok()) << rates.status();
  ASSERT_TRUE(rates->rows[0].rate.beside_copy.has_value());
  const BesideCopyRate& beside = *rates->rows[0].rate.beside_copy;
  ExpectSane(beside.seconds);
  ExpectSane(beside.copy_alone_bytes_per_s);
  EXPECT_GT(beside.copy_beside_bytes_per_s.median, 0);  // it may not come in every turn

  EXPECT_TRUE(
      absl::IsDataLoss((*copies)->Beside([] { return absl::DataLossError("no disk"); }).status()));
}

TEST(CpuProbeTest, WhatCannotBeIsRefusedBeforeAnythingRuns) {
  const auto attention_error = [](const auto& change) {
    AttentionProbeSpec spec = TinyAttention();
    CpuProbeOptions options = TinyOptions();
    change(spec, options);
    return std::string(MeasureAttention(spec, options, nullptr, nullptr).status().message());
  };
  using Spec = AttentionProbeSpec;
  using Options = CpuProbeOptions;
  EXPECT_EQ(attention_error([](Spec& spec, Options&) { spec.kv_format = "fp4"; }),
            "KV format \"fp4\" is unknown; there are f32, bf16, f16, int8");
  EXPECT_EQ(attention_error([](Spec& spec, Options&) { spec.num_key_value_heads = 3; }),
            "4 query heads cannot share 3 KV heads evenly");
  EXPECT_THAT(attention_error([](Spec& spec, Options&) { spec.head_dim = 33; }),
              HasSubstr("head_dim is 33"));
  EXPECT_THAT(attention_error([](Spec& spec, Options&) {
                spec.shapes = {{0, 1}};
              }),
              HasSubstr("context 0 x batch 1: both must be at least 1"));
  EXPECT_EQ(attention_error([](Spec& spec, Options&) {
              spec.shapes = {{4096, 16}};
            }),
            "context 4096 x batch 16 needs 16777216 bytes of KV, and the probe may take 4194304");
  EXPECT_THAT(attention_error([](Spec&, Options& options) { options.isa = "sse9"; }),
              HasSubstr("isa \"sse9\" is unknown"));

  ExpertProbeSpec spec = TinyExpert();
  spec.tokens = {0};
  EXPECT_TRUE(
      absl::IsInvalidArgument(MeasureExperts(spec, TinyOptions(), nullptr, nullptr).status()));
  spec = {.tokens = {1}};
  EXPECT_TRUE(
      absl::IsResourceExhausted(MeasureExperts(spec, TinyOptions(), nullptr, nullptr).status()));
}

TEST(CpuProbeTest, CopiesNeedAGpu) {
  if (CreateBackend("cuda", {}).ok()) GTEST_SKIP() << "there is a GPU";
  const absl::StatusOr<ExpertRates> rates =
      Engine::ProbeExperts({}, TinyExpert(), {.isa = "", .beside_copy = true}, nullptr);
  EXPECT_TRUE(absl::IsFailedPrecondition(rates.status())) << rates.status();
  EXPECT_THAT(std::string(rates.status().message()), HasSubstr("copies to a GPU need"));
}

}  // namespace
}  // namespace moelight
