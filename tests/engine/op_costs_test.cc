// Goal: an op takes the longer of its operations and its bytes, as a plain calculation by hand has
// it; nothing becomes slower on a faster machine; where the profile has no figure the nearest
// stands in.
#include "engine/backend/simulated/op_costs.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/backend/simulated/attended_pairs.h"
#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

constexpr HeadGeometry kHeads = {32, 8, 128};

// Round figures. In bytes and operations per microsecond: GPU memory 1e6, products 1e8, experts
// 5e7, prompts 1e7; host memory 1e5, experts 1e6, attention 5e4; link 1e4 in, 8e3 out.
HardwareProfile RoundProfile() {
  HardwareProfile profile = LargeGpuProfile();
  HostProfile& host = profile.host;
  host.num_threads = 10;
  host.read_bytes_per_s = 1e11;
  host.attention = {{"bf16", 4, {{{1, 5e10}}}}};
  host.experts = {{4096, 14336, {{{1, 1e12}}}}};
  host.sample_bytes_per_s = 1e9;
  GpuProfile& gpu = profile.gpu;
  gpu.memory_bytes_per_s = 1e12;
  gpu.launch_us = 5;
  gpu.matmul_flops_per_s = {{{1, 1e14}}};
  gpu.experts = {{4096, 14336, {{{1, 5e13}}}}};
  gpu.attention_flops_per_s = 1e13;
  profile.link = {{{{1, 1e10}}}, {{{1, 8e9}}}, 1.5e10, 7};
  return profile;
}

struct NamedOp {
  const char* name;
  std::function<OpCost(const OpCosts& costs)> cost;
  double launch_us;  // on the machine of RoundProfile(), all launches
  double compute_us;
  double memory_us;
};

ExpertShape Experts(int64_t num_tokens, int64_t expert_bytes) {
  return {num_tokens, 8, 2, 4096, 14336, expert_bytes};
}

std::vector<NamedOp> NamedOps() {
  constexpr double kExpertWeights = 3.0 * 4096 * 14336;
  return {
      {"rows", [](const OpCosts& costs) { return costs.Rows(3'000'000); }, 5, 0, 3},
      {"small product",
       [](const OpCosts& costs) { return costs.MatMul(2, 4000, 1000, 8'000'000, 4); }, 5,
       2.0 * 2 * 4000 * 1000 / 1e8, (8e6 + 2 * 5000 * 4) / 1e6},
      {"large product",
       [](const OpCosts& costs) { return costs.MatMul(1000, 4000, 1000, 8'000'000, 4); }, 5,
       2.0 * 1000 * 4000 * 1000 / 1e8, (8e6 + 1000 * 5000 * 4) / 1e6},
      // Every expert of eight, two a token: all are read by a thousand tokens.
      {"experts of many tokens",
       [](const OpCosts& costs) { return costs.Experts(Experts(1000, 1'000'000)); }, 4 * 5,
       2 * 2000 * kExpertWeights / 5e7, 8},
      {"experts of one token",
       [](const OpCosts& costs) { return costs.Experts(Experts(1, 352'000'000)); }, 4 * 5,
       2 * 2 * kExpertWeights / 5e7, 2 * 352},
      {"prompt attention",
       [](const OpCosts& costs) { return costs.DeviceAttention(kHeads, 50'000, 4096); }, 5,
       4.0 * 4096 * 50'000 / 1e7, 0.004},
      {"decode attention on the GPU",
       [](const OpCosts& costs) { return costs.DeviceAttention(kHeads, 10, 20'000'000); }, 5,
       4.0 * 4096 * 10 / 1e7, 20},
      {"copy on the GPU", [](const OpCosts& costs) { return costs.DeviceCopy(2'000'000); }, 5, 0,
       4},
      {"logits", [](const OpCosts& costs) { return costs.Sample(5'000'000); }, 0, 0, 500},
      {"to the device", [](const OpCosts& costs) { return costs.ToDevice(4'000'000); }, 7, 0, 400},
      {"to the host", [](const OpCosts& costs) { return costs.ToHost(4'000'000); }, 7, 0, 500},
      {"nothing to the device", [](const OpCosts& costs) { return costs.ToDevice(0); }, 0, 0, 0},
      {"pages to the device", [](const OpCosts& costs) { return costs.PagesToDevice(4'000'000); },
       7, 0, 400},
      {"pages to the host", [](const OpCosts& costs) { return costs.PagesToHost(4'000'000); }, 7, 0,
       500},
  };
}

TEST(OpCostsTest, AnOpTakesTheLongerOfOperationsAndBytes) {
  const OpCosts costs(RoundProfile());
  for (const NamedOp& op : NamedOps()) {
    EXPECT_NEAR(op.cost(costs).us, op.launch_us + std::max(op.compute_us, op.memory_us), 1e-3)
        << op.name;
  }
}

TEST(OpCostsTest, OperationsAndBytesAreCounted) {
  const OpCosts costs(RoundProfile());
  OpCost sum = costs.MatMul(2, 4000, 1000, 8'000'000, 4);
  EXPECT_EQ(sum.flops, 2 * 2 * 4000 * 1000);
  EXPECT_EQ(sum.bytes, 8'000'000 + 2 * 5000 * 4);
  sum += costs.ToDevice(1000);
  EXPECT_EQ(sum.flops, 2 * 2 * 4000 * 1000);
  EXPECT_EQ(sum.bytes, 8'041'000);
  // K and V of 10 tokens that each see 100 positions, 8 heads of 128 bf16 each.
  EXPECT_EQ(costs.HostAttention(kHeads, DType::kBF16, 10, 1000).bytes, 1000 * 2 * 8 * 256);
  EXPECT_EQ(costs.HostAttention(kHeads, DType::kBF16, 0, 0).us, 0);
}

// What the host takes to start: ops of no bytes tell.
TEST(OpCostsTest, TheHostHasRatesOfItsOwn) {
  const OpCosts costs(RoundProfile());
  const double launch_us = costs.HostAttention(kHeads, DType::kBF16, 1, 0).us;
  EXPECT_GT(launch_us, 0);
  EXPECT_NEAR(costs.HostAttention(kHeads, DType::kBF16, 10, 1000).us - launch_us,
              kHostAttentionInEngine * 1000 * 2 * 8 * 256 / 5e4, 1e-3);
  EXPECT_NEAR(costs.HostExperts(Experts(1000, 1'000'000)).us - launch_us,
              2 * 2000 * (3.0 * 4096 * 14336) / 1e6, 1);
  // Without a GPU the device is the host, and what would go over the link is a copy in its memory.
  HardwareProfile profile = RoundProfile();
  profile.gpu = {};
  const OpCosts host_only(profile);
  EXPECT_NEAR(host_only.Rows(1'000'000).us, launch_us + 10, 1e-3);
  EXPECT_NEAR(host_only.ToDevice(1'000'000).us, launch_us + 20, 1e-3);
  EXPECT_EQ(host_only.Experts(Experts(1000, 1'000'000)).us,
            costs.HostExperts(Experts(1000, 1'000'000)).us);
}

struct Rate {
  const char* name;
  std::function<void(HardwareProfile& profile, double factor)> scale;
};

std::vector<Rate> Rates() {
  const auto scale_experts = [](std::vector<ExpertRateCurve>& curves, double factor) {
    for (ExpertRateCurve& curve : curves) curve.flops_per_s.Scale(factor);
  };
  return {
      {"host.read", [](HardwareProfile& p, double f) { p.host.read_bytes_per_s *= f; }},
      {"host.sample", [](HardwareProfile& p, double f) { p.host.sample_bytes_per_s *= f; }},
      {"host.attention",
       [](HardwareProfile& p, double f) {
         for (HostAttentionRate& rate : p.host.attention) rate.bytes_per_s.Scale(f);
       }},
      {"host.experts", [=](HardwareProfile& p, double f) { scale_experts(p.host.experts, f); }},
      {"gpu.memory", [](HardwareProfile& p, double f) { p.gpu.memory_bytes_per_s *= f; }},
      {"gpu.launch", [](HardwareProfile& p, double f) { p.gpu.launch_us /= f; }},
      {"gpu.matmul", [](HardwareProfile& p, double f) { p.gpu.matmul_flops_per_s.Scale(f); }},
      {"gpu.experts", [=](HardwareProfile& p, double f) { scale_experts(p.gpu.experts, f); }},
      {"gpu.attention", [](HardwareProfile& p, double f) { p.gpu.attention_flops_per_s *= f; }},
      {"link.h2d", [](HardwareProfile& p, double f) { p.link.h2d_bytes_per_s.Scale(f); }},
      {"link.d2h", [](HardwareProfile& p, double f) { p.link.d2h_bytes_per_s.Scale(f); }},
      {"link.latency", [](HardwareProfile& p, double f) { p.link.latency_us /= f; }},
  };
}

// Over all ops at many sizes, those between two figures of the profile included.
std::vector<OpCost> AllCosts(const HardwareProfile& profile) {
  const OpCosts costs(profile);
  std::vector<OpCost> all;
  for (int64_t size = 1; size <= 1 << 14; size *= 3) {
    all.push_back(costs.Rows(size * 4096));
    all.push_back(costs.MatMul(size, 4096, 1024, int64_t{8} << 20, 2));
    all.push_back(costs.Router(size, 4096, 128));
    all.push_back(costs.DeviceAttention(kHeads, size * 77, size * 4096));
    all.push_back(costs.DeviceCopy(size * 1000));
    all.push_back(costs.HostAttention(kHeads, DType::kBF16, size, size * 300));
    all.push_back(costs.HostAttention({64, 4, 128}, DType::kI8, 1, size));
    all.push_back(costs.Sample(size * 128'000));
    all.push_back(costs.ToDevice(size * 65'536));
    all.push_back(costs.ToHost(size * 65'536));
    // As f32, so that where there are few tokens the memory binds.
    for (const int64_t intermediate_size : {500, 768, 3000, 14336, 20000}) {
      const ExpertShape shape = {
          size, 64, 4, 2048, intermediate_size, 12 * 2048 * intermediate_size};
      all.push_back(costs.Experts(shape));
      all.push_back(costs.HostExperts(shape));
    }
  }
  return all;
}

TEST(OpCostsTest, NothingIsSlowerOnAFasterMachine) {
  for (const HardwareProfile& profile : {LargeGpuProfile(), SmallGpuProfile(), HostOnlyProfile()}) {
    const std::vector<OpCost> before = AllCosts(profile);
    for (const Rate& rate : Rates()) {
      HardwareProfile faster = profile;
      rate.scale(faster, 1.7);
      const std::vector<OpCost> after = AllCosts(faster);
      ASSERT_EQ(after.size(), before.size());
      int num_faster = 0;
      for (size_t i = 0; i < after.size(); ++i) {
        EXPECT_LE(after[i].us, before[i].us) << profile.name << ", " << rate.name << ", op " << i;
        EXPECT_EQ(after[i].flops, before[i].flops);
        EXPECT_EQ(after[i].bytes, before[i].bytes);
        if (after[i].us < before[i].us) ++num_faster;
      }
      const std::string name = rate.name;
      const bool is_of_gpu = name.starts_with("gpu") || name.starts_with("link");
      EXPECT_EQ(num_faster > 0, profile.has_gpu() || !is_of_gpu) << profile.name << ", " << name;
    }
  }
}

TEST(OpCostsTest, SeveralGpusCountAsOne) {
  HardwareProfile two = RoundProfile();
  two.gpu.count = 2;
  HardwareProfile sum = RoundProfile();
  sum.gpu.memory_bytes *= 2;
  for (const char* name :
       {"gpu.memory", "gpu.matmul", "gpu.experts", "gpu.attention", "link.h2d", "link.d2h"}) {
    for (const Rate& rate : Rates()) {
      if (rate.name == std::string(name)) rate.scale(sum, 2);
    }
  }
  const std::vector<OpCost> costs = AllCosts(two);
  const std::vector<OpCost> expected = AllCosts(sum);
  for (size_t i = 0; i < costs.size(); ++i) EXPECT_EQ(costs[i].us, expected[i].us) << "op " << i;
  const HardwareProfile one = OpCosts(two).profile();
  EXPECT_EQ(one.gpu.memory_bytes, sum.gpu.memory_bytes);
  EXPECT_EQ(one.link.both_bytes_per_s, 2 * two.link.both_bytes_per_s);
  EXPECT_EQ(one.power.gpu_watts, 2 * two.power.gpu_watts);
  EXPECT_EQ(one.power.idle_watts, two.power.idle_watts);
}

// The rate at which the host reads K and V of `heads`, kept as `dtype`.
double AttentionRate(const HardwareProfile& profile, const HeadGeometry& heads, DType dtype,
                     int64_t context) {
  const OpCosts costs(profile);
  const OpCost cost = costs.HostAttention(heads, dtype, 1000, 1000 * context);
  return kHostAttentionInEngine * cost.bytes /
         (cost.us - costs.HostAttention(heads, dtype, 1, 0).us) * 1e6;
}

TEST(OpCostsTest, AttentionWithoutAFigureOfItsOwnHasTheNearest) {
  HardwareProfile profile = RoundProfile();
  profile.host.attention = {{"bf16", 4, {{{100, 20e9}, {10000, 40e9}}}},
                            {"bf16", 8, {{{100, 30e9}}}},
                            {"int8", 8, {{{100, 17e9}}}}};
  const struct {
    int32_t group_size;
    DType dtype;
    int64_t context;
    double rate;
  } kCases[] = {
      {4, DType::kBF16, 50, 20e9},  {4, DType::kBF16, 1000, 30e9}, {4, DType::kBF16, 99999, 40e9},
      {1, DType::kBF16, 100, 20e9}, {5, DType::kBF16, 100, 20e9},  {6, DType::kBF16, 100, 30e9},
      {16, DType::kBF16, 9, 30e9},  {8, DType::kI8, 100, 17e9},    {1, DType::kI8, 100, 17e9},
      {4, DType::kF16, 100, 20e9},  {7, DType::kF16, 100, 30e9},
  };
  for (const auto& c : kCases) {
    EXPECT_NEAR(AttentionRate(profile, {8 * c.group_size, 8, 128}, c.dtype, c.context), c.rate,
                1e-6 * c.rate)
        << c.group_size << ", " << DTypeName(c.dtype) << ", " << c.context;
  }
}

TEST(OpCostsTest, ExpertRatesLieBetweenTheSizesNextToThem) {
  HardwareProfile profile = RoundProfile();
  profile.gpu.experts = {{1000, 10000, {{{1, 40e12}}}},
                         {1000, 100, {{{1, 10e12}, {100, 20e12}}}},
                         {1000, 1000, {{{1, 30e12}}}}};
  const OpCosts costs(profile);
  const auto rate_of = [&costs](int64_t intermediate_size, int64_t tokens_per_expert) {
    // All experts for every token, and no bytes to read.
    const OpCost cost = costs.Experts({tokens_per_expert, 4, 4, 1000, intermediate_size, 0});
    return cost.flops / (cost.us - costs.Experts({0, 4, 4, 1000, intermediate_size, 0}).us) * 1e6;
  };
  const struct {
    int64_t intermediate_size;
    int64_t tokens_per_expert;
    double rate;
  } kCases[] = {
      {50, 1, 10e12},  {100, 1, 10e12},   {100, 10, 15e12}, {100, 1000, 20e12}, {1000, 1000, 30e12},
      {316, 1, 20e12}, {316, 100, 25e12}, {3162, 5, 35e12}, {10000, 5, 40e12},  {50000, 5, 40e12},
  };
  for (const auto& c : kCases) {
    // 316 is the root of 1e5, to three digits.
    EXPECT_NEAR(rate_of(c.intermediate_size, c.tokens_per_expert), c.rate, 1e-3 * c.rate)
        << c.intermediate_size << ", " << c.tokens_per_expert;
  }
}

TEST(AttendedPairsTest, CountsAsALoopDoes) {
  for (int64_t num_new = 0; num_new <= 12; ++num_new) {
    for (int64_t num_cached = 0; num_cached <= 12; ++num_cached) {
      for (int64_t window = 0; window <= 26; ++window) {
        int64_t num_pairs = 0;
        for (int64_t row = num_cached; row < num_cached + num_new; ++row) {
          for (int64_t seen = 0; seen <= row; ++seen) {
            if (window == 0 || seen > row - window) ++num_pairs;
          }
        }
        EXPECT_EQ(AttendedPairs(num_new, num_cached, window), num_pairs)
            << num_new << " after " << num_cached << ", window " << window;
      }
    }
  }
}

}  // namespace
}  // namespace moelight
