// Goal: workloads have the lengths of the data sets that they stand for, the same on every machine.
#include "server/bench_workload.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <variant>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

double Mean(const std::vector<int32_t>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / values.size();
}

class BenchWorkloadTest : public ::testing::TestWithParam<std::string> {
 protected:
  const BenchWorkload& workload() { return **FindBenchWorkload(GetParam()); }
};

TEST_P(BenchWorkloadTest, MeanAndMaximumAreTheDataSets) {
  for (const int64_t count : {1, 2, 8, 100, 1600}) {
    const std::vector<int32_t> lengths = DrawPromptLengths(workload(), count);
    ASSERT_EQ(lengths.size(), count);
    EXPECT_NEAR(Mean(lengths), workload().mean_prompt_tokens, 0.02 * workload().mean_prompt_tokens)
        << count;
    EXPECT_GE(*std::min_element(lengths.begin(), lengths.end()), 1);
    EXPECT_LE(*std::max_element(lengths.begin(), lengths.end()), workload().max_prompt_tokens);
    EXPECT_EQ(lengths, DrawPromptLengths(workload(), count));
  }
  const std::vector<int32_t> many = DrawPromptLengths(workload(), 10'000);
  EXPECT_EQ(*std::max_element(many.begin(), many.end()), workload().max_prompt_tokens);
}

TEST_P(BenchWorkloadTest, LongAndShortPromptsAreMixed) {
  const std::vector<int32_t> lengths = DrawPromptLengths(workload(), 1000);
  const std::vector<int32_t> first(lengths.begin(), lengths.begin() + 500);
  EXPECT_NEAR(Mean(first), Mean(lengths), 0.1 * Mean(lengths));
}

INSTANTIATE_TEST_SUITE_P(Table, BenchWorkloadTest,
                         ::testing::Values("mtbench", "reasoning", "summarization", "long"),
                         [](const auto& info) { return info.param; });

TEST(BenchWorkloadsTest, TableIsThePapers) {
  std::string table;
  for (const BenchWorkload& workload : BenchWorkloads()) {
    absl::StrAppend(&table, workload.name, " ", workload.mean_prompt_tokens, "/",
                    workload.max_prompt_tokens, ", ", workload.num_output_tokens, "; ");
  }
  EXPECT_EQ(table,
            "mtbench 77/418, 128; reasoning 242/256, 50; summarization 1693/1984, 64; "
            "long 512/512, 512; ");
  EXPECT_EQ(FindBenchWorkload("chat").status().message(),
            "workload \"chat\" is not known; there are: mtbench, reasoning, summarization, long");
}

TEST(BenchRequestTest, IsGreedyAndEndsAtItsLength) {
  const BenchWorkload& workload = **FindBenchWorkload("mtbench");
  const GenerateRequest request = MakeBenchRequest(workload, 3, 50, 1000);
  const auto& tokens = std::get<std::vector<TokenId>>(request.input);
  ASSERT_EQ(tokens.size(), 50u);
  for (const TokenId token : tokens) EXPECT_TRUE(token >= 0 && token < 1000) << token;
  EXPECT_EQ(request.sampling.temperature, 0);
  EXPECT_EQ(request.sampling.max_tokens, 128);
  EXPECT_TRUE(request.sampling.ignore_eos);
  EXPECT_EQ(std::get<std::vector<TokenId>>(MakeBenchRequest(workload, 3, 50, 1000).input), tokens);
  EXPECT_NE(std::get<std::vector<TokenId>>(MakeBenchRequest(workload, 4, 50, 1000).input), tokens);
}

TEST(BenchRequestTest, GeometricAnswersMayEndAndHaveALimit) {
  BenchWorkload workload = **FindBenchWorkload("mtbench");
  EXPECT_EQ(MaxOutputTokens(workload), 128);
  workload.has_geometric_lengths = true;
  EXPECT_EQ(MaxOutputTokens(workload), 8 * 128);
  const GenerateRequest request = MakeBenchRequest(workload, 3, 50, 1000);
  EXPECT_EQ(request.sampling.max_tokens, 8 * 128);
  EXPECT_FALSE(request.sampling.ignore_eos);
  ASSERT_TRUE(request.sampling.seed.has_value());
  EXPECT_EQ(request.sampling.seed, MakeBenchRequest(workload, 3, 60, 1000).sampling.seed);
  EXPECT_NE(request.sampling.seed, MakeBenchRequest(workload, 4, 50, 1000).sampling.seed);
  EXPECT_EQ(HintFor(workload).num_output_tokens, 128) << "the mean";
}

TEST(BenchRequestTest, PromptsBeginWithTheSharedPrefix) {
  BenchWorkload workload = **FindBenchWorkload("mtbench");
  const auto tokens_of = [&workload](int64_t index) {
    const GenerateRequest request = MakeBenchRequest(workload, index, 50, 1000);
    EXPECT_EQ(request.group.client, "bench");
    EXPECT_EQ(request.group.job, "bench");
    return std::get<std::vector<TokenId>>(request.input);
  };
  const std::vector<TokenId> plain = tokens_of(4);
  workload.num_shared_prefix_tokens = 32;
  const std::vector<TokenId> a = tokens_of(3);
  const std::vector<TokenId> b = tokens_of(4);
  ASSERT_EQ(a.size(), 82u);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 32, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 32, a.end(), b.begin() + 32));
  EXPECT_EQ(std::vector<TokenId>(b.begin() + 32, b.end()), plain);
  EXPECT_EQ(HintFor(workload).mean_prompt_tokens, 32 + 77);
  EXPECT_EQ(HintFor(workload).max_prompt_tokens, 32 + 418);
}

}  // namespace
}  // namespace moelight
