#include "engine/sampling/logit_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "engine/sampling/candidates.h"
#include "engine/sampling/philox.h"
#include "tests/sampling/sampling_reference.h"

namespace moelight {
namespace {

using testing::RandomLogits;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(PhiloxTest, KnownAnswers) {
  // The answers published with the Random123 library.
  using Counter = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformsFillTheUnitIntervalAndDifferByEveryArgument) {
  constexpr int kNumDraws = 20000;
  double sum = 0;
  for (int i = 0; i < kNumDraws; ++i) {
    const double u = UniformAt(1, 0, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
  }
  // Five standard deviations of the mean of kNumDraws uniforms.
  EXPECT_NEAR(sum / kNumDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kNumDraws));
  EXPECT_NE(UniformAt(1, 0, 0), UniformAt(2, 0, 0));
  EXPECT_NE(UniformAt(1, 0, 0), UniformAt(uint64_t{1} << 32 | 1, 0, 0));
  EXPECT_NE(UniformAt(1, 0, 0), UniformAt(1, 1, 0));
  EXPECT_NE(UniformAt(1, 0, 0), UniformAt(1, 0, 1));
}

TEST(ExpNonPositiveTest, FollowsStdExp) {
  for (float x = 0; x > -87; x -= 0.0137f) {
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_NEAR(ExpNonPositive(x) / exact, 1, 3e-7) << x;
  }
  EXPECT_EQ(ExpNonPositive(0), 1);
  EXPECT_EQ(ExpNonPositive(-87.01f), 0);
  EXPECT_EQ(ExpNonPositive(-3e38f), 0);
  EXPECT_EQ(ExpNonPositive(-kInf), 0);
}

// Sizes around the block and lane boundaries.
class LogitBlocksTest : public ::testing::TestWithParam<int> {};

TEST_P(LogitBlocksTest, MaximaAndSumsFollowThePlainLoops) {
  std::mt19937_64 random(GetParam());
  const std::vector<float> logits = RandomLogits(random, GetParam(), 3);
  std::vector<float> block_max;
  const LogitScan scan = ScanBlocks(logits, block_max);
  const auto max = std::max_element(logits.begin(), logits.end());
  EXPECT_FALSE(scan.has_nan);
  EXPECT_EQ(scan.max, *max);
  EXPECT_EQ(FirstMax(logits, block_max, scan.max), max - logits.begin());

  const SoftmaxScale scale = {scan.max, 1 / 0.7f};
  double expected = 0;
  for (float logit : logits) expected += std::exp((logit - scan.max) / 0.7);
  std::vector<double> block_sum;
  const double sum = SumWeights(logits, scale, block_sum);
  EXPECT_NEAR(sum / expected, 1, 1e-6);

  // Every point of the mass belongs to the token whose interval holds it.
  double before = 0;
  for (int i = 0; i < GetParam(); ++i) {
    const double weight = scale.Weight(logits[i]);
    const double middle = before + weight / 2;
    if (weight > 1e-5 * sum) {
      EXPECT_EQ(TokenAtMass(logits, scale, block_sum, middle), i);
    }
    before += weight;
  }
}

TEST_P(LogitBlocksTest, FindsNanAndTheFirstOfEqualMaximaAnywhere) {
  std::vector<float> block_max;
  for (int at = 0; at < GetParam(); ++at) {
    std::vector<float> logits(GetParam(), -1.0f);
    logits[at] = kNan;
    EXPECT_TRUE(ScanBlocks(logits, block_max).has_nan) << at;
    logits[at] = 2;
    logits.back() = 2;
    EXPECT_EQ(ScanBlocks(logits, block_max).max, 2);
    EXPECT_EQ(FirstMax(logits, block_max, 2), at);
  }
}

TEST_P(LogitBlocksTest, TokensOfNoWeightAreNeverDrawn) {
  std::vector<float> block_max;
  std::vector<double> block_sum;
  for (int at : {0, GetParam() / 2, GetParam() - 1}) {
    std::vector<float> logits(GetParam(), -kInf);
    logits[at] = -5;
    const SoftmaxScale scale = {ScanBlocks(logits, block_max).max, 1.0f};
    EXPECT_EQ(SumWeights(logits, scale, block_sum), 1);
    // 1 is beyond what is drawn, but rounding may come to it.
    for (double point : {0.0, 0.5, 1.0}) {
      EXPECT_EQ(TokenAtMass(logits, scale, block_sum, point), at);
    }
  }
}

TEST_P(LogitBlocksTest, TopKFollowsAFullSort) {
  std::mt19937_64 random(GetParam());
  std::vector<float> logits = RandomLogits(random, GetParam(), 3);
  for (float& logit : logits) logit = std::round(logit);  // many ties
  std::vector<int> ranked(GetParam());
  std::iota(ranked.begin(), ranked.end(), 0);
  std::stable_sort(ranked.begin(), ranked.end(),
                   [&](int a, int b) { return logits[a] > logits[b]; });
  std::vector<float> block_max, floats;
  std::vector<Candidate> candidates, work;
  ScanBlocks(logits, block_max);
  for (int k : {1, 2, 7, 64, 1000, 100000}) {
    GatherCandidates(logits, block_max, TopKFloor(block_max, k, floats), candidates);
    KeepTopK(k, candidates, work);
    std::vector<int> expected(ranked.begin(), ranked.begin() + std::min(k, GetParam()));
    std::sort(expected.begin(), expected.end());
    std::vector<int> kept;
    for (const Candidate& c : candidates) kept.push_back(c.token);
    EXPECT_EQ(kept, expected) << "k = " << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, LogitBlocksTest,
                         ::testing::Values(1, 2, 15, 63, 64, 65, 127, 128, 1000, 1024, 5003));

}  // namespace
}  // namespace moelight
