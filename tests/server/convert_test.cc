#include "server/convert.h"

#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "tests/testing/fake_engine.h"

namespace moelight {
namespace {

constexpr int32_t kVocabSize = 1000;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

// Maps are set by generated code only: under ThreadSanitizer their layout differs from the one that
// Debian's libprotobuf was built with, so its text format and reflection must not touch them.
void SetBias(int32_t token, float bias, v1::SamplingParams& sampling) {
  (*sampling.mutable_logit_bias())[token] = bias;
}

TEST(ToGenerateRequestTest, TakesEveryField) {
  const auto prompt = Parse<v1::Prompt>(R"(chat {
    messages { role: "user" content: "hi" name: "ann" }
    messages { role: "assistant" reasoning_content: "hm" tool_calls_json: "[{}]" }
    messages { role: "tool" content: "4" tool_call_id: "c1" }
    tools_json: "[]" chat_template_kwargs_json: "{\"a\": [1]}" omit_generation_prompt: true })");
  auto sampling = Parse<v1::SamplingParams>(R"(
    temperature: 0.5 top_p: 0.9 top_k: 40 min_p: 0.1 repetition_penalty: 1.5
    presence_penalty: -1 frequency_penalty: 2 seed: 18446744073709551615 max_tokens: 7
    min_tokens: 3 stop: "a" stop: "b" stop_token_ids: 999 ignore_eos: true logprobs: 20 n: 16)");
  SetBias(9, 1, sampling);
  SetBias(2, -100, sampling);
  const absl::StatusOr<GenerateRequest> request = ToGenerateRequest(prompt, sampling, kVocabSize);
  ASSERT_TRUE(request.ok()) << request.status();
  const ChatPrompt& chat = std::get<ChatPrompt>(request->input);
  ASSERT_EQ(chat.messages.size(), 3);
  EXPECT_EQ(chat.messages[0].name, "ann");
  EXPECT_EQ(chat.messages[1].reasoning_content, "hm");
  EXPECT_EQ(chat.messages[1].tool_calls_json, "[{}]");
  EXPECT_EQ(chat.messages[2].tool_call_id, "c1");
  EXPECT_EQ(chat.tools_json, "[]");
  EXPECT_FALSE(chat.add_generation_prompt);
  const SamplingParams& params = request->sampling;
  EXPECT_EQ(params.temperature, 0.5f);
  EXPECT_EQ(params.top_p, 0.9f);
  EXPECT_EQ(params.top_k, 40);
  EXPECT_EQ(params.min_p, 0.1f);
  EXPECT_EQ(params.repetition_penalty, 1.5f);
  EXPECT_EQ(params.presence_penalty, -1.f);
  EXPECT_EQ(params.frequency_penalty, 2.f);
  EXPECT_EQ(params.seed, 18446744073709551615u);
  EXPECT_EQ(params.max_tokens, 7);
  EXPECT_EQ(params.min_tokens, 3);
  EXPECT_THAT(params.stop, testing::ElementsAre("a", "b"));
  EXPECT_THAT(params.stop_token_ids, testing::ElementsAre(999));
  EXPECT_TRUE(params.ignore_eos);
  EXPECT_EQ(params.logprobs, 20);
  EXPECT_EQ(params.n, 16);
  EXPECT_THAT(params.logit_bias,
              testing::ElementsAre(testing::Pair(2, -100.f), testing::Pair(9, 1.f)));
}

TEST(ToGenerateRequestTest, WhatIsUnsetStaysUnset) {
  const absl::StatusOr<GenerateRequest> request =
      ToGenerateRequest(Parse<v1::Prompt>("text: 'a'"), v1::SamplingParams(), kVocabSize);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(std::get<std::string>(request->input), "a");
  EXPECT_FALSE(request->sampling.temperature.has_value());
  EXPECT_FALSE(request->sampling.max_tokens.has_value());
  EXPECT_FALSE(request->sampling.logprobs.has_value());
  EXPECT_EQ(request->sampling.n, 1);
}

TEST(ToGenerateRequestTest, NamesTheFieldThatIsWrong) {
  const std::string deep = std::string(100'000, '[');
  const struct {
    std::string prompt;
    std::string sampling;
    std::string path;
  } rows[] = {
      {"", "", "prompt: "},
      {"text: ''", "", "prompt.text: "},
      {"token_ids {}", "", "prompt.token_ids.ids: "},
      {"token_ids { ids: [1, -1] }", "", "prompt.token_ids.ids[1]: -1 "},
      {"token_ids { ids: 1000 }", "", "prompt.token_ids.ids[0]: 1000 "},
      {"chat {}", "", "prompt.chat.messages: "},
      {"chat { messages { role: 'user' } messages { content: 'x' } }", "",
       "prompt.chat.messages[1].role: "},
      {"chat { messages { role: 'u' tool_calls_json: '{}' } }", "",
       "prompt.chat.messages[0].tool_calls_json: not a JSON array"},
      {"chat { messages { role: 'u' } tools_json: '[1,' }", "",
       "prompt.chat.tools_json: not JSON at byte "},
      {"chat { messages { role: 'u' } tools_json: '" + deep + "' }", "",
       "prompt.chat.tools_json: JSON nested deeper than 64 levels"},
      {"chat { messages { role: 'u' } chat_template_kwargs_json: '[]' }", "",
       "prompt.chat.chat_template_kwargs_json: not a JSON object"},
      {"text: 'a'", "temperature: nan", "sampling.temperature"},
      {"text: 'a'", "temperature: 2.5", "sampling.temperature"},
      {"text: 'a'", "top_p: 0", "sampling.top_p"},
      {"text: 'a'", "top_k: -2", "sampling.top_k"},
      {"text: 'a'", "min_p: inf", "sampling.min_p"},
      {"text: 'a'", "max_tokens: 0", "sampling.max_tokens"},
      {"text: 'a'", "n: 17", "sampling.n"},
      {"text: 'a'", "logprobs: 21", "sampling.logprobs"},
      {"text: 'a'", "stop: ''", "sampling.stop"},
      {"text: 'a'", "stop_token_ids: 1000", "sampling.stop_token_ids"},
  };
  for (const auto& row : rows) {
    const absl::Status status =
        ToGenerateRequest(Parse<v1::Prompt>(row.prompt), Parse<v1::SamplingParams>(row.sampling),
                          kVocabSize)
            .status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(row.path));
    EXPECT_LT(status.message().size(), 300) << "an error must not repeat the input";
  }
}

TEST(ToGenerateRequestTest, NamesTheBiasThatIsWrong) {
  for (const float bias : {101.f, -101.f, std::numeric_limits<float>::quiet_NaN()}) {
    v1::SamplingParams sampling;
    SetBias(1, bias, sampling);
    const absl::Status status = ToSamplingParams(sampling, kVocabSize).status();
    EXPECT_THAT(std::string(status.message()), testing::StartsWith("sampling.logit_bias"));
  }
}

TEST(MergeSamplingTest, RowWinsFieldByField) {
  auto defaults =
      Parse<v1::SamplingParams>("temperature: 0.5 top_k: 3 stop: 'a' stop: 'b' ignore_eos: true");
  SetBias(1, 1, defaults);
  auto row = Parse<v1::SamplingParams>("temperature: 0 stop: 'c' ignore_eos: false n: 2");
  SetBias(2, 2, row);
  auto expected =
      Parse<v1::SamplingParams>("temperature: 0 top_k: 3 stop: 'c' ignore_eos: false n: 2");
  SetBias(2, 2, expected);
  EXPECT_EQ(MergeSampling(row, defaults).SerializeAsString(), expected.SerializeAsString());
  EXPECT_EQ(MergeSampling(v1::SamplingParams(), defaults).SerializeAsString(),
            defaults.SerializeAsString());
}

TEST(ToBatchResultTest, CarriesChoicesOrTheError) {
  FakeEngine engine;
  GenerateResult result;
  result.num_prompt_tokens = 5;
  Choice choice;
  choice.index = 1;
  choice.text = "hé";
  choice.tokens = {7, 8};
  choice.logprobs = {{.token = 7, .logprob = -0.5f, .top = {{7, -0.5f}, {9, -2.f}}}};
  choice.finish_reason = FinishReason::kLength;
  choice.stop_reason = "x";
  result.choices = {Choice(), choice};

  const v1::BatchResult good = ToBatchResult(3, "id", result, engine);
  EXPECT_EQ(good.row(), 3);
  EXPECT_EQ(good.custom_id(), "id");
  EXPECT_FALSE(good.has_error());
  ASSERT_EQ(good.choices_size(), 2);
  EXPECT_EQ(good.choices(1).text(), "hé");
  EXPECT_EQ(good.choices(1).finish_reason(), v1::FINISH_REASON_LENGTH);
  ASSERT_EQ(good.choices(1).logprobs_size(), 1);
  EXPECT_EQ(good.choices(1).logprobs(0).top_logprobs(1).token_id(), 9);
  EXPECT_EQ(good.choices(1).logprobs(0).token(), engine.TokenText(7));
  EXPECT_EQ(good.usage().prompt_tokens(), 5);
  EXPECT_EQ(good.usage().completion_tokens(), 2);

  result.status = absl::InternalError("broken");
  const v1::BatchResult bad = ToBatchResult(3, "id", result, engine);
  EXPECT_EQ(bad.error().code(), 13);
  EXPECT_EQ(bad.choices_size(), 0);
  EXPECT_EQ(bad.usage().completion_tokens(), 2);
}

}  // namespace
}  // namespace moelight
