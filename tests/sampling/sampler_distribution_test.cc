// Goal: over many positions the sampler's tokens are distributed as the reference says, by
// Pearson's chi-square test. Seeds are fixed, so the tests are deterministic.
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "engine/sampling/sampler.h"
#include "tests/sampling/sampling_reference.h"

namespace moelight {
namespace {

using testing::RandomLogits;
using testing::ReferenceDistribution;
using testing::ReferenceSequence;

struct DistributionCase {
  const char* name;
  std::function<void(SamplingParams&)> set;
};

std::ostream& operator<<(std::ostream& os, const DistributionCase& c) { return os << c.name; }

// Upper bound of chi-square at about 4 standard deviations (Wilson-Hilferty approximation).
double ChiSquareBound(int degrees_of_freedom) {
  const double a = 2.0 / (9.0 * degrees_of_freedom);
  return degrees_of_freedom * std::pow(1 - a + 4 * std::sqrt(a), 3);
}

class SamplerDistributionTest : public ::testing::TestWithParam<DistributionCase> {};

TEST_P(SamplerDistributionTest, ChiSquare) {
  constexpr int kVocabSize = 150;
  constexpr int kNumDraws = 40'000;
  constexpr double kMinExpected = 5;  // rarer tokens share one cell
  std::mt19937_64 random(11);
  const std::vector<float> raw = RandomLogits(random, kVocabSize, 1.5);
  ReferenceSequence sequence;
  GetParam().set(sequence.params);
  const std::vector<double> probs = ReferenceDistribution(sequence, raw);

  SequenceSampler sampler(sequence.params, sequence.defaults, /*seed=*/2024, /*choice_index=*/0,
                          kVocabSize, /*prompt=*/{});
  SamplerScratch scratch;
  std::vector<int> counts(kVocabSize);
  std::vector<float> logits;
  for (int i = 0; i < kNumDraws; ++i) {
    logits = raw;
    ++counts[sampler.Sample(absl::MakeSpan(logits), scratch)->token];
  }
  double chi_square = 0, rare_expected = 0, rare_counts = 0;
  int num_cells = 0;
  const auto add_cell = [&](double expected, double observed) {
    chi_square += (observed - expected) * (observed - expected) / expected;
    ++num_cells;
  };
  for (int i = 0; i < kVocabSize; ++i) {
    const double expected = probs[i] * kNumDraws;
    if (probs[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " is truncated";
    } else if (expected < kMinExpected) {
      rare_expected += expected;
      rare_counts += counts[i];
    } else {
      add_cell(expected, counts[i]);
    }
  }
  if (rare_expected > kMinExpected) add_cell(rare_expected, rare_counts);
  ASSERT_GE(num_cells, 2);
  EXPECT_LT(chi_square, ChiSquareBound(num_cells - 1)) << num_cells << " cells";
}

INSTANTIATE_TEST_SUITE_P(
    All, SamplerDistributionTest,
    ::testing::Values(DistributionCase{"Plain", [](auto&) {}},
                      DistributionCase{"Cool", [](auto& p) { p.temperature = 0.5f; }},
                      DistributionCase{"Hot", [](auto& p) { p.temperature = 1.8f; }},
                      DistributionCase{"TopP", [](auto& p) { p.top_p = 0.7f; }},
                      DistributionCase{"TopK", [](auto& p) { p.top_k = 12; }},
                      DistributionCase{"MinP", [](auto& p) { p.min_p = 0.15f; }},
                      DistributionCase{"All",
                                       [](auto& p) {
                                         p.temperature = 1.2f;
                                         p.top_k = 30;
                                         p.top_p = 0.9f;
                                         p.min_p = 0.03f;
                                       }}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace moelight
