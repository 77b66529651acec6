// Goal: the arguments of `bench attention` and `bench experts` become the probes that they
// describe, and the figures come out with their roofs.
#include "server/bench_kernels.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/bench_options.h"

namespace moelight {
namespace {

using nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

KernelBenchOptions Parse(const std::vector<std::string>& args) {
  const absl::StatusOr<BenchOptions> options = ParseBenchOptions(args);
  EXPECT_TRUE(options.ok()) << options.status();
  return options.ok() ? options->kernels : KernelBenchOptions();
}

std::vector<std::pair<int32_t, int32_t>> Shapes(const std::vector<std::string>& args) {
  std::vector<std::pair<int32_t, int32_t>> shapes;
  for (const AttentionProbeSpec::Shape& shape : MakeAttentionSpec(Parse(args)).shapes) {
    shapes.emplace_back(shape.context, shape.batch);
  }
  return shapes;
}

TEST(BenchKernelsTest, TheDefaultTableHasOneLongSequence) {
  using Pair = std::pair<int32_t, int32_t>;
  EXPECT_THAT(Shapes({"attention"}),
              ElementsAre(Pair{128, 64}, Pair{512, 64}, Pair{1024, 64}, Pair{2048, 64},
                          Pair{4096, 64}, Pair{8192, 64}, Pair{32768, 1}));
  EXPECT_THAT(Shapes({"attention", "--context", "10,20", "--batch=1,2"}),
              ElementsAre(Pair{10, 1}, Pair{20, 1}, Pair{10, 2}, Pair{20, 2}));
  EXPECT_THAT(Shapes({"attention", "--context", "10"}), ElementsAre(Pair{10, 64}));
  const AttentionProbeSpec spec = MakeAttentionSpec(Parse({"attention"}));
  EXPECT_EQ(spec.num_attention_heads, 32);
  EXPECT_EQ(spec.num_key_value_heads, 8);
  EXPECT_EQ(spec.head_dim, 128);
  EXPECT_EQ(spec.page_tokens, 16);
  EXPECT_EQ(spec.kv_format, "bf16");
}

TEST(BenchKernelsTest, ReadsEveryFlag) {
  const KernelBenchOptions attention =
      Parse({"attention", "--heads", "64/4", "--head-dim", "64", "--page-tokens=32", "--kv=int8",
             "--isa", "avx2", "--threads=3", "--memory", "2GiB", "--beside-copy"});
  const AttentionProbeSpec spec = MakeAttentionSpec(attention);
  EXPECT_EQ(spec.num_attention_heads, 64);
  EXPECT_EQ(spec.num_key_value_heads, 4);
  EXPECT_EQ(spec.head_dim, 64);
  EXPECT_EQ(spec.page_tokens, 32);
  EXPECT_EQ(spec.kv_format, "int8");
  EXPECT_EQ(attention.num_threads, 3);
  const KernelProbeOptions probe = MakeKernelProbeOptions(attention);
  EXPECT_EQ(probe.isa, "avx2");
  EXPECT_EQ(probe.memory_bytes, int64_t{2} << 30);
  EXPECT_TRUE(probe.beside_copy);

  const ExpertProbeSpec expert =
      MakeExpertSpec(Parse({"experts", "--tokens", "3,1", "--shape", "2048x768"}));
  EXPECT_THAT(expert.tokens, ElementsAre(3, 1));
  EXPECT_EQ(expert.hidden_size, 2048);
  EXPECT_EQ(expert.intermediate_size, 768);
  const ExpertProbeSpec mixtral = MakeExpertSpec(Parse({"experts"}));
  EXPECT_EQ(mixtral.tokens.back(), 1024);
  EXPECT_EQ(mixtral.hidden_size, 4096);
  EXPECT_EQ(mixtral.intermediate_size, 14336);
  EXPECT_FALSE(MakeKernelProbeOptions(Parse({"experts"})).beside_copy);
}

// 2 GB in 0.1 s, of 40 GB/s: half. 1 GFLOP at 100 GFLOP/s would take 10 ms.
KernelRate MakeRate() {
  KernelRate rate;
  rate.isa = "avx9";
  rate.bytes = 2'000'000'000;
  rate.flops = 1'000'000'000;
  rate.seconds = {0.1, 0.09, 0.12};
  rate.read_bytes_per_s = {40e9, 38e9, 41e9};
  rate.peak_flops_per_s = {100e9, 99e9, 101e9};
  rate.roof_share = {0.5, 0.45, 0.55};
  return rate;
}

TEST(BenchKernelsTest, LinesNameTheRoofThatBinds) {
  const KernelRate rate = MakeRate();
  EXPECT_DOUBLE_EQ(rate.read_seconds(), 0.05);
  EXPECT_DOUBLE_EQ(rate.peak_seconds(), 0.01);
  const std::string line = AttentionLine({{4096, 7}, rate});
  EXPECT_THAT(line, HasSubstr("avx9            4096     7"));
  EXPECT_THAT(line, HasSubstr("100.000    20.00     10.0 |        40.00    100.0"));
  EXPECT_THAT(line, HasSubstr("50.0 (45.0 to 55.0) of reads"));
  EXPECT_THAT(line, Not(HasSubstr("copies")));

  KernelRate bound_by_peak = rate;
  bound_by_peak.flops *= 8;
  bound_by_peak.beside_copy = {{0.125, 0.12, 0.13}, {50e9, 49e9, 51e9}, {45e9, 44e9, 46e9}};
  const std::string beside = ExpertLine({12, bound_by_peak});
  EXPECT_THAT(beside, HasSubstr("of peak | beside copies 125.000 ms, 80.0 % of alone; "
                                "h2d 45.00 GB/s, 90.0 % of 50.00"));
  EXPECT_THAT(ProbeFooter({2, true, 32 << 20, int64_t{1} << 30}),
              HasSubstr("2 threads, pinned; calls go round 1024 MiB, the last level of cache has "
                        "32"));
}

TEST(BenchKernelsTest, JsonHasEveryFigure) {
  AttentionRates rates;
  rates.info = {2, false, 32 << 20, int64_t{1} << 30};
  rates.rows = {{{4096, 7}, MakeRate()}};
  // Through text, as whoever reads it gets it.
  const ordered_json json =
      ordered_json::parse(AttentionRatesToJson(AttentionProbeSpec(), rates).dump());
  EXPECT_EQ(json["heads"]["kv"], 8);
  EXPECT_EQ(json["machine"]["threads"], 2);
  const ordered_json& row = json["rows"][0];
  EXPECT_EQ(row["isa"], "avx9");
  EXPECT_EQ(row["context"], 4096);
  EXPECT_EQ(row["batch"], 7);
  EXPECT_DOUBLE_EQ(row["bytes_per_s"], 20e9);
  EXPECT_DOUBLE_EQ(row["flops_per_s"], 10e9);
  EXPECT_DOUBLE_EQ(row["seconds"]["max"], 0.12);
  EXPECT_EQ(row["roofs"]["binding"], "read");
  EXPECT_DOUBLE_EQ(row["roofs"]["reached_ratio"]["median"], 0.5);
  EXPECT_FALSE(row.contains("beside_copy"));

  KernelRate beside = MakeRate();
  beside.beside_copy = {{0.125, 0.12, 0.13}, {50e9, 49e9, 51e9}, {45e9, 44e9, 46e9}};
  const ordered_json experts =
      ordered_json::parse(ExpertRatesToJson(ExpertProbeSpec(), {{}, {{12, beside}}}).dump());
  EXPECT_EQ(experts["hidden_size"], 4096);
  EXPECT_EQ(experts["rows"][0]["tokens"], 12);
  EXPECT_DOUBLE_EQ(experts["rows"][0]["beside_copy"]["ratio_to_alone"], 0.8);
  EXPECT_DOUBLE_EQ(experts["rows"][0]["beside_copy"]["h2d_ratio_to_alone"], 0.9);
}

}  // namespace
}  // namespace moelight
