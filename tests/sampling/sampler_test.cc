#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/sampling/philox.h"
#include "tests/sampling/sampling_reference.h"

namespace moelight {
namespace {

using testing::RandomLogits;
using testing::ReferenceDistribution;
using testing::ReferenceLogprobs;
using testing::ReferenceSequence;

constexpr float kInf = std::numeric_limits<float>::infinity();

SequenceSampler MakeSampler(const ReferenceSequence& sequence, int vocab_size, uint64_t seed = 42,
                            int32_t choice_index = 0) {
  return SequenceSampler(sequence.params, sequence.defaults, seed, choice_index, vocab_size,
                         sequence.prompt);
}

std::vector<TokenId> Generate(SequenceSampler sampler, std::mt19937_64 random, int vocab_size,
                              int num_tokens) {
  SamplerScratch scratch;
  std::vector<TokenId> tokens;
  for (int i = 0; i < num_tokens; ++i) {
    std::vector<float> logits = RandomLogits(random, vocab_size, 2);
    tokens.push_back(sampler.Sample(absl::MakeSpan(logits), scratch)->token);
  }
  return tokens;
}

// --- The whole chain against the reference -------------------------------------------------------

struct ChainCase {
  const char* name;
  std::function<void(SamplingParams&)> set;
};

std::ostream& operator<<(std::ostream& os, const ChainCase& c) { return os << c.name; }

const ChainCase kChainCases[] = {
    {"Defaults", [](auto&) {}},
    {"Greedy", [](auto& p) { p.temperature = 0.0f; }},
    {"GreedyPenalized",
     [](auto& p) {
       p.temperature = 0.0f;
       p.repetition_penalty = 1.7f;
       p.frequency_penalty = 0.5f;
       p.top_k = 5;
     }},
    {"Cold", [](auto& p) { p.temperature = 0.05f; }},
    {"Hot", [](auto& p) { p.temperature = 2.0f; }},
    {"TopK", [](auto& p) { p.top_k = 7; }},
    {"TopKOne", [](auto& p) { p.top_k = 1; }},
    {"TopKBeyondVocab", [](auto& p) { p.top_k = 1'000'000; }},
    {"TopP", [](auto& p) { p.top_p = 0.8f; }},
    {"TopPNearOne", [](auto& p) { p.top_p = 0.9999f; }},
    {"TopPTiny", [](auto& p) { p.top_p = 1e-9f; }},
    {"MinP", [](auto& p) { p.min_p = 0.1f; }},
    {"MinPOne", [](auto& p) { p.min_p = 1.0f; }},
    {"TopKTopP",
     [](auto& p) {
       p.top_k = 40;
       p.top_p = 0.6f;
     }},
    {"MinPTopP",
     [](auto& p) {
       p.min_p = 0.02f;
       p.top_p = 0.9f;
       p.temperature = 1.5f;
     }},
    {"Repetition", [](auto& p) { p.repetition_penalty = 1.3f; }},
    {"RepetitionReward", [](auto& p) { p.repetition_penalty = 0.5f; }},
    {"PresenceFrequency",
     [](auto& p) {
       p.presence_penalty = 1.5f;
       p.frequency_penalty = 0.8f;
     }},
    {"NegativePenalties",
     [](auto& p) {
       p.presence_penalty = -1.0f;
       p.frequency_penalty = -0.3f;
     }},
    {"LogitBias",
     [](auto& p) {
       p.logit_bias = {{0, 4.0f}, {1, -100.0f}, {2, 3.5f}};
     }},
    {"MinTokens",
     [](auto& p) {
       p.min_tokens = 9;
       p.stop_token_ids = {2};
       p.logit_bias = {{0, 5.0f}, {2, 5.0f}};
     }},
    {"Everything",
     [](auto& p) {
       p.temperature = 0.9f;
       p.top_k = 50;
       p.top_p = 0.95f;
       p.min_p = 0.01f;
       p.repetition_penalty = 1.1f;
       p.presence_penalty = 0.4f;
       p.frequency_penalty = 0.2f;
       p.logit_bias = {{0, 2.0f}, {3, -1.0f}};
       p.min_tokens = 5;
       p.stop_token_ids = {2};
     }},
};

class SamplerChainTest : public ::testing::TestWithParam<std::tuple<ChainCase, int>> {};

// The reference's distribution function, in order of ids, must put the sampler's own uniform number
// into the interval of the token it chose.
TEST_P(SamplerChainTest, DrawsWhereTheReferenceDistributionSays) {
  const auto& [chain_case, vocab_size] = GetParam();
  constexpr int kNumTokens = 25;
  constexpr double kTolerance = 1e-5;
  std::mt19937_64 random(vocab_size);
  ReferenceSequence sequence;
  sequence.defaults.eos_token_ids = {0};
  sequence.prompt = {1, 2, 2, vocab_size - 1};
  chain_case.set(sequence.params);
  SamplerScratch scratch;
  for (uint64_t seed : {0u, 1u, 77u}) {
    sequence.output.clear();
    SequenceSampler sampler = MakeSampler(sequence, vocab_size, seed);
    for (int position = 0; position < kNumTokens; ++position) {
      const std::vector<float> raw = RandomLogits(random, vocab_size, 1 + position % 4);
      const std::vector<double> probs = ReferenceDistribution(sequence, raw);
      std::vector<float> logits = raw;
      const auto sampled = sampler.Sample(absl::MakeSpan(logits), scratch);
      ASSERT_TRUE(sampled.ok()) << sampled.status();
      const TokenId token = sampled->token;
      const double u = UniformAt(seed, 0, position);
      const double before = std::accumulate(probs.begin(), probs.begin() + token, 0.0);
      ASSERT_GT(probs[token], 0) << "position " << position;
      ASSERT_GE(u, before - kTolerance) << "position " << position;
      ASSERT_LE(u, before + probs[token] + kTolerance) << "position " << position;
      ASSERT_FALSE(sampled->logprob.has_value());
      sequence.output.push_back(token);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, SamplerChainTest,
                         ::testing::Combine(::testing::ValuesIn(kChainCases),
                                            ::testing::Values(5, 64, 130, 1024, 5003)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) +
                                  std::to_string(std::get<1>(info.param));
                         });

// --- Ties and greedy -----------------------------------------------------------------------------

TEST(SequenceSamplerTest, GreedyTakesTheLowestIdAmongEquals) {
  ReferenceSequence sequence;
  sequence.params.temperature = 0.0f;
  SequenceSampler sampler = MakeSampler(sequence, 200);
  SamplerScratch scratch;
  std::vector<float> logits(200, 1.0f);
  EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), scratch)->token, 0);
  logits[70] = logits[71] = logits[150] = 3;
  EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), scratch)->token, 70);
}

TEST(SequenceSamplerTest, TiesAtTheEdgeOfTopKAndTopPGoToTheLowestIds) {
  ReferenceSequence top_k, top_p;
  top_k.params.top_k = 3;
  top_p.params.top_p = 0.03f;  // of 100 equal tokens
  SamplerScratch scratch;
  for (const ReferenceSequence& sequence : {top_k, top_p}) {
    SequenceSampler sampler = MakeSampler(sequence, 100);
    std::vector<int> counts(100);
    for (int i = 0; i < 300; ++i) {
      std::vector<float> logits(100, 0.5f);
      ++counts[sampler.Sample(absl::MakeSpan(logits), scratch)->token];
    }
    EXPECT_GT(std::min({counts[0], counts[1], counts[2]}), 60);
    EXPECT_EQ(counts[0] + counts[1] + counts[2], 300);
  }
}

// --- Reproducibility -----------------------------------------------------------------------------

TEST(SequenceSamplerTest, ARowIsTheSameWhateverRunsBesideIt) {
  constexpr int kVocabSize = 300;
  constexpr int kNumTokens = 40;
  ReferenceSequence sequence;
  sequence.params.top_p = 0.95f;
  sequence.params.frequency_penalty = 0.5f;
  const std::mt19937_64 row_logits(7);
  const std::vector<TokenId> alone =
      Generate(MakeSampler(sequence, kVocabSize), row_logits, kVocabSize, kNumTokens);

  ReferenceSequence other;
  other.params.logprobs = 5;
  other.params.top_k = 9;
  std::vector<SequenceSampler> others;
  for (int i = 0; i < 5; ++i) others.push_back(MakeSampler(other, 1000, i));
  SequenceSampler sampler = MakeSampler(sequence, kVocabSize);
  SamplerScratch scratch;
  std::mt19937_64 random = row_logits;
  std::mt19937_64 other_random(8);
  std::vector<TokenId> together;
  for (int i = 0; i < kNumTokens; ++i) {
    for (int j = 0; j < i % 6; ++j) {
      std::vector<float> logits = RandomLogits(other_random, 1000, 2);
      ASSERT_TRUE(others[j].Sample(absl::MakeSpan(logits), scratch).ok());
    }
    std::vector<float> logits = RandomLogits(random, kVocabSize, 2);
    together.push_back(sampler.Sample(absl::MakeSpan(logits), scratch)->token);
  }
  EXPECT_EQ(together, alone);
}

TEST(SequenceSamplerTest, SeedsAndChoicesDiffer) {
  const ReferenceSequence sequence;
  const std::mt19937_64 random(7);
  const auto generate = [&](uint64_t seed, int32_t choice) {
    return Generate(MakeSampler(sequence, 300, seed, choice), random, 300, 20);
  };
  EXPECT_EQ(generate(1, 0), generate(1, 0));
  EXPECT_NE(generate(1, 0), generate(2, 0));
  EXPECT_NE(generate(1, 0), generate(1, 1));
}

TEST(SequenceSamplerTest, LogitsOffInTheLastBitsGiveTheSameTokens) {
  constexpr int kVocabSize = 2000;
  ReferenceSequence sequence;
  sequence.params.top_p = 0.99f;
  SequenceSampler exact = MakeSampler(sequence, kVocabSize);
  SequenceSampler nudged = MakeSampler(sequence, kVocabSize);
  SamplerScratch scratch;
  std::mt19937_64 random(3);
  for (int i = 0; i < 100; ++i) {
    std::vector<float> logits = RandomLogits(random, kVocabSize, 2);
    std::vector<float> other = logits;
    for (float& logit : other) logit = std::nextafter(logit, random() % 2 == 0 ? kInf : -kInf);
    EXPECT_EQ(exact.Sample(absl::MakeSpan(logits), scratch)->token,
              nudged.Sample(absl::MakeSpan(other), scratch)->token);
  }
}

// --- Logprobs ------------------------------------------------------------------------------------

TEST(SequenceSamplerTest, LogprobsAreThoseOfTheRawLogits) {
  for (int vocab_size : {5, 64, 1024, 5003}) {
    for (int num_logprobs : {0, 1, 5, 20}) {
      std::mt19937_64 random(vocab_size + num_logprobs);
      ReferenceSequence sequence;
      sequence.params.logprobs = num_logprobs;
      sequence.params.temperature = 0.7f;
      sequence.params.top_k = 40;
      sequence.params.repetition_penalty = 1.5f;
      sequence.params.logit_bias = {{3, 20.0f}};
      SequenceSampler sampler = MakeSampler(sequence, vocab_size);
      SamplerScratch scratch;
      for (int i = 0; i < 5; ++i) {
        const std::vector<float> raw = RandomLogits(random, vocab_size, 3);
        const std::vector<double> expected = ReferenceLogprobs(raw);
        std::vector<float> logits = raw;
        const auto sampled = sampler.Sample(absl::MakeSpan(logits), scratch);
        ASSERT_TRUE(sampled.ok() && sampled->logprob.has_value());
        const TokenLogprob& logprob = *sampled->logprob;
        EXPECT_EQ(logprob.token, sampled->token);
        EXPECT_NEAR(logprob.logprob, expected[sampled->token], 1e-4);
        ASSERT_EQ(static_cast<int>(logprob.top.size()), std::min(num_logprobs, vocab_size));
        std::vector<int> ranked(vocab_size);
        std::iota(ranked.begin(), ranked.end(), 0);
        std::stable_sort(ranked.begin(), ranked.end(),
                         [&](int a, int b) { return raw[a] > raw[b]; });
        for (size_t r = 0; r < logprob.top.size(); ++r) {
          EXPECT_EQ(logprob.top[r].first, ranked[r]);
          EXPECT_NEAR(logprob.top[r].second, expected[ranked[r]], 1e-4);
        }
      }
    }
  }
}

TEST(SequenceSamplerTest, LogprobsOfAWholeVocabularySumToOne) {
  ReferenceSequence sequence;
  sequence.params.logprobs = 20;
  sequence.params.temperature = 0.0f;
  SequenceSampler sampler = MakeSampler(sequence, 20);
  SamplerScratch scratch;
  std::mt19937_64 random(1);
  std::vector<float> logits = RandomLogits(random, 20, 4);
  const auto sampled = sampler.Sample(absl::MakeSpan(logits), scratch);
  double sum = 0;
  for (const auto& [token, logprob] : sampled->logprob->top) sum += std::exp(logprob);
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_EQ(sampled->logprob->top[0].first, sampled->token);
}

// --- min_tokens ----------------------------------------------------------------------------------

TEST(SequenceSamplerTest, EndTokensAreMaskedUntilMinTokensEvenIfEosIsIgnored) {
  for (bool ignore_eos : {false, true}) {
    ReferenceSequence sequence;
    sequence.params.temperature = 0.0f;
    sequence.params.min_tokens = 2;
    sequence.params.stop_token_ids = {4};
    sequence.params.ignore_eos = ignore_eos;
    sequence.defaults.eos_token_ids = {5, 6};
    SequenceSampler sampler = MakeSampler(sequence, 10);
    SamplerScratch scratch;
    for (TokenId expected : {7, 7, 4}) {
      std::vector<float> logits = {0, 0, 0, 0, 9, 8, 7, 6, 0, 0};
      EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), scratch)->token, expected);
    }
  }
}

// --- Rows that are not in order ------------------------------------------------------------------

TEST(SequenceSamplerTest, BadLogitsFailWithoutATrace) {
  const ReferenceSequence sequence;
  SequenceSampler sampler = MakeSampler(sequence, 100);
  SamplerScratch scratch;
  const auto sample = [&](float value, bool everywhere) {
    std::vector<float> logits(100, everywhere ? value : 0.0f);
    logits[99] = value;
    return sampler.Sample(absl::MakeSpan(logits), scratch).status();
  };
  EXPECT_EQ(sample(std::nanf(""), false).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(sample(kInf, false).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(sample(-kInf, true).code(), absl::StatusCode::kInternal);
  const std::mt19937_64 random(1);
  EXPECT_EQ(Generate(sampler, random, 100, 10),
            Generate(MakeSampler(sequence, 100), random, 100, 10));
  EXPECT_TRUE(sample(-kInf, false).ok()) << "-infinity masks a token and is no error";
}

TEST(SequenceSamplerTest, MaskingEveryTokenIsTheCallersError) {
  ReferenceSequence sequence;
  sequence.params.min_tokens = 1;
  sequence.params.stop_token_ids = {0, 1};
  SequenceSampler sampler = MakeSampler(sequence, 2);
  SamplerScratch scratch;
  std::vector<float> logits = {1, 2};
  EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), scratch).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SequenceSamplerTest, ExtremeLogitsAndPenaltiesStayInRange) {
  ReferenceSequence sequence;
  sequence.params.repetition_penalty = std::numeric_limits<float>::denorm_min();
  sequence.params.temperature = std::numeric_limits<float>::denorm_min();
  sequence.prompt = {0, 1};
  SequenceSampler sampler = MakeSampler(sequence, 4);
  SamplerScratch scratch;
  std::vector<float> logits = {1e30f, 2e30f, -3e38f, 3e38f};
  const auto sampled = sampler.Sample(absl::MakeSpan(logits), scratch);
  ASSERT_TRUE(sampled.ok()) << sampled.status();
  EXPECT_LE(sampled->token, 1);
}

}  // namespace
}  // namespace moelight
