#include "server/admission.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "tests/testing/fake_engine.h"

namespace moelight {
namespace {

using ::google::protobuf::TextFormat;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int32_t kVocabSize = 256;

class AdmissionTest : public ::testing::Test {
 protected:
  std::vector<std::string> rejected_;
  Admission admission_{
      {.row_bytes = 1000, .append_buffer = 100, .on_reject = [this](absl::string_view reason) {
         rejected_.emplace_back(reason);
       }}};
};

v1::BatchRequest Row(const std::string& custom_id, const std::string& text) {
  v1::BatchRequest row;
  row.set_custom_id(custom_id);
  row.mutable_prompt()->set_text(text);
  return row;
}

TEST_F(AdmissionTest, PhasesFollowEachOtherAndNeverGoBack) {
  FakeEngine engine;
  EXPECT_TRUE(absl::IsUnavailable(admission_.Admit().status()));
  admission_.StartServing(engine);
  EXPECT_EQ(*admission_.Admit(), &engine);
  admission_.StartDraining();
  EXPECT_TRUE(absl::IsUnavailable(admission_.Admit().status()));
  admission_.StartServing(engine);
  EXPECT_EQ(admission_.phase(), Phase::kDraining);
  EXPECT_THAT(rejected_, ElementsAre("loading", "draining"));
}

TEST_F(AdmissionTest, GoodRowIsKeptWithItsEstimate) {
  const AppendRow row = admission_.CheckRow(Row("a", "12345"), {}, kVocabSize);
  EXPECT_EQ(row.refusal.code(), 0);
  EXPECT_EQ(row.request.prompt().text(), "12345");
  EXPECT_EQ(row.estimated_prompt_tokens, 2);
  EXPECT_THAT(rejected_, IsEmpty());
}

TEST_F(AdmissionTest, AnswersAreEstimatedFromTheirLimits) {
  const struct {
    const char* sampling;
    int64_t tokens;
  } cases[] = {
      {"", 128},
      {"max_tokens: 5", 5},
      {"max_tokens: 5000", 128},
      {"max_tokens: 5000 ignore_eos: true", 5000},
      {"ignore_eos: true", 128},
      {"min_tokens: 300", 300},
      {"max_tokens: 400 min_tokens: 300", 300},
      {"max_tokens: 10 n: 3", 30},
  };
  for (const auto& row : cases) {
    v1::BatchRequest request = Row("a", "x");
    ASSERT_TRUE(TextFormat::ParseFromString(row.sampling, request.mutable_sampling()));
    EXPECT_EQ(admission_.CheckRow(request, {}, kVocabSize).estimated_output_tokens, row.tokens)
        << row.sampling;
    v1::SamplingParams defaults;
    defaults.Swap(request.mutable_sampling());
    EXPECT_EQ(admission_.CheckRow(request, defaults, kVocabSize).estimated_output_tokens,
              row.tokens)
        << row.sampling << " as the job's default";
  }
}

TEST_F(AdmissionTest, BadRowsCarryTheirRefusal) {
  const AppendRow invalid = admission_.CheckRow(Row("a", ""), {}, kVocabSize);
  EXPECT_EQ(invalid.refusal.code(), 3);
  EXPECT_THAT(invalid.refusal.message(), HasSubstr("prompt.text"));
  EXPECT_EQ(admission_.CheckRow(Row(std::string(257, 'x'), "a"), {}, kVocabSize).refusal.code(), 3);

  // The job's defaults count: alone, the row would be good.
  v1::SamplingParams defaults;
  defaults.set_max_tokens(1);
  v1::BatchRequest row = Row("b", "a");
  row.mutable_sampling()->set_min_tokens(2);
  EXPECT_EQ(admission_.CheckRow(row, {}, kVocabSize).refusal.code(), 0);
  EXPECT_EQ(admission_.CheckRow(row, defaults, kVocabSize).refusal.code(), 3);
  EXPECT_THAT(rejected_, ElementsAre("invalid", "invalid", "invalid"));
}

TEST_F(AdmissionTest, RowThatIsTooLargeIsReducedToItsId) {
  const AppendRow row = admission_.CheckRow(Row("id", std::string(1000, 'x')), {}, kVocabSize);
  EXPECT_EQ(row.refusal.code(), 8);
  EXPECT_THAT(row.refusal.message(), HasSubstr("limit 1000 (server.limits.row_bytes)"));
  EXPECT_EQ(row.request.custom_id(), "id");
  EXPECT_FALSE(row.request.has_prompt());
  EXPECT_THAT(rejected_, ElementsAre("limit"));
}

TEST_F(AdmissionTest, JobsAreCheckedFieldByField) {
  v1::CreateBatchJobRequest request;
  EXPECT_TRUE(admission_.CheckJob(request, kVocabSize).ok());
  const auto error = [&](const v1::CreateBatchJobRequest& bad) {
    return std::string(admission_.CheckJob(bad, kVocabSize).message());
  };
  v1::CreateBatchJobRequest bad = request;
  bad.set_request_id(std::string(65, 'x'));
  EXPECT_EQ(error(bad), "request_id: 65 bytes, limit 64");
  bad = request;
  bad.mutable_job()->set_display_name(std::string(257, 'x'));
  EXPECT_EQ(error(bad), "job.display_name: 257 bytes, limit 256");
  bad = request;
  for (int i = 0; i < 17; ++i) (*bad.mutable_job()->mutable_labels())[std::to_string(i)] = "";
  EXPECT_EQ(error(bad), "job.labels: 17 labels, limit 16");
  bad = request;
  (*bad.mutable_job()->mutable_labels())["k"] = std::string(65, 'x');
  EXPECT_EQ(error(bad), "job.labels: 65 bytes, limit 64");
  bad = request;
  bad.mutable_job()->mutable_default_sampling()->set_top_p(2);
  EXPECT_THAT(error(bad), testing::StartsWith("job.default_sampling.top_p"));
}

TEST(EstimatePromptTokensTest, CountsEveryKindOfPrompt) {
  v1::Prompt prompt;
  EXPECT_EQ(EstimatePromptTokens(prompt), 0);
  prompt.mutable_token_ids()->add_ids(1);
  prompt.mutable_token_ids()->add_ids(2);
  EXPECT_EQ(EstimatePromptTokens(prompt), 2);
  prompt.mutable_chat()->add_messages()->set_content("12345");
  prompt.mutable_chat()->add_messages()->set_content("1234");
  EXPECT_EQ(EstimatePromptTokens(prompt), 3);
}

TEST(ByteBudgetTest, GrantsInOrderOfArrival) {
  ByteBudget budget(100);
  std::vector<int> granted;
  budget.Acquire(60, [&]() { granted.push_back(1); });
  budget.Acquire(50, [&]() { granted.push_back(2); });
  budget.Acquire(10, [&]() { granted.push_back(3); });  // would fit, but is not next
  EXPECT_THAT(granted, ElementsAre(1));
  EXPECT_EQ(budget.used(), 60);
  budget.Release(60);
  EXPECT_THAT(granted, ElementsAre(1, 2, 3));
  EXPECT_EQ(budget.used(), 60);
}

TEST(ByteBudgetTest, MoreThanTheCapacityCountsAsTheCapacity) {
  ByteBudget budget(100);
  bool granted = false;
  budget.Acquire(1000, [&]() { granted = true; });
  EXPECT_TRUE(granted);
  EXPECT_EQ(budget.used(), 100);
  budget.Release(1000);
  EXPECT_EQ(budget.used(), 0);
}

}  // namespace
}  // namespace moelight
