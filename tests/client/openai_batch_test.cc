// Goal: every field of an OpenAI Batch line arrives in the request or is refused by name, and
// output lines read like OpenAI's.
#include "client/openai_batch.h"

#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "google/rpc/error_details.pb.h"

namespace moelight::client {
namespace {

using ::google::protobuf::TextFormat;
using ::testing::HasSubstr;
using Json = nlohmann::json;

// A line with this body; single quotes stand for double ones, for legibility.
std::string Line(const std::string& url, const std::string& body) {
  return absl::StrReplaceAll(
      absl::StrCat("{'custom_id':'a','method':'POST','url':'", url, "','body':{", body, "}}"),
      {{"'", "\""}});
}
std::string ChatLine(const std::string& fields) {
  return Line("/v1/chat/completions",
              absl::StrCat("'messages':[{'role':'user','content':'hi'}]", fields));
}
std::string CompletionLine(const std::string& fields) {
  return Line("/v1/completions", absl::StrCat("'prompt':'hi'", fields));
}

struct ValidCase {
  std::string line;
  std::string request;  // text format, without custom_id
};
void PrintTo(const ValidCase& c, std::ostream* out) { *out << c.line; }

class ValidLineTest : public ::testing::TestWithParam<ValidCase> {};

TEST_P(ValidLineTest, BecomesTheRequest) {
  const ParsedLine parsed = ParseBatchLine(GetParam().line);
  ASSERT_FALSE(parsed.error.has_value()) << GetParam().line << "\n" << parsed.error->message;
  v1::BatchRequest expected;
  ASSERT_TRUE(TextFormat::ParseFromString(GetParam().request, &expected));
  expected.set_custom_id("a");
  // Presence of an empty `sampling` says nothing.
  if (!expected.has_sampling()) expected.mutable_sampling();
  // Not by reflection, which under ThreadSanitizer does not work on messages with maps: Debian's
  // libprotobuf is built without it and lays map fields out differently.
  EXPECT_EQ(parsed.request.SerializeAsString(), expected.SerializeAsString()) << GetParam().line;
}

const char kHi[] = "prompt { chat { messages { role: 'user' content: 'hi' } ";
const char kText[] = "prompt { text: 'hi' } sampling { max_tokens: 16 ";

INSTANTIATE_TEST_SUITE_P(
    Chat, ValidLineTest,
    ::testing::Values(
        ValidCase{ChatLine(""), absl::StrCat(kHi, "} }")},
        ValidCase{
            ChatLine(",'temperature':0.5,'top_p':1,'top_k':-1,'min_p':0.1"),
            absl::StrCat(kHi, "} } sampling { temperature: 0.5 top_p: 1 top_k: -1 min_p: 0.1 }")},
        ValidCase{ChatLine(",'presence_penalty':1,'frequency_penalty':-1,'repetition_penalty':1.1"),
                  absl::StrCat(kHi,
                               "} } sampling { presence_penalty: 1 frequency_penalty: -1 "
                               "repetition_penalty: 1.1 }")},
        ValidCase{ChatLine(",'seed':18446744073709551615,'n':2,'ignore_eos':true,'min_tokens':3"),
                  absl::StrCat(kHi,
                               "} } sampling { seed: 18446744073709551615 n: 2 ignore_eos: "
                               "true min_tokens: 3 }")},
        ValidCase{ChatLine(",'max_tokens':5"), absl::StrCat(kHi, "} } sampling { max_tokens: 5 }")},
        ValidCase{ChatLine(",'max_completion_tokens':5,'max_tokens':5"),
                  absl::StrCat(kHi, "} } sampling { max_tokens: 5 }")},
        ValidCase{ChatLine(",'stop':'x'"), absl::StrCat(kHi, "} } sampling { stop: 'x' }")},
        ValidCase{ChatLine(",'stop':['x','y'],'stop_token_ids':[1,2]"),
                  absl::StrCat(kHi, "} } sampling { stop: ['x', 'y'] stop_token_ids: [1, 2] }")},
        ValidCase{ChatLine(",'logprobs':true"), absl::StrCat(kHi, "} } sampling { logprobs: 0 }")},
        ValidCase{ChatLine(",'logprobs':true,'top_logprobs':4"),
                  absl::StrCat(kHi, "} } sampling { logprobs: 4 }")},
        ValidCase{ChatLine(",'logprobs':false"), absl::StrCat(kHi, "} }")},
        ValidCase{ChatLine(",'model':'m','user':'u','stream':true,'metadata':{'a':'b'},"
                           "'response_format':{'type':'text'},'temperature':null,'tools':null"),
                  absl::StrCat(kHi, "} }")},
        ValidCase{ChatLine(",'tools':[{'type':'function'}],'tool_choice':'auto'"),
                  absl::StrCat(kHi, "tools_json: '[{\"type\":\"function\"}]' } }")},
        ValidCase{ChatLine(",'tools':[{'type':'function'}],'tool_choice':'none'"),
                  absl::StrCat(kHi, "} }")},
        ValidCase{ChatLine(",'chat_template_kwargs':{'enable_thinking':false},"
                           "'add_generation_prompt':false"),
                  absl::StrCat(kHi,
                               "chat_template_kwargs_json: '{\"enable_thinking\":false}' "
                               "omit_generation_prompt: true } }")}));

INSTANTIATE_TEST_SUITE_P(
    Messages, ValidLineTest,
    ::testing::Values(
        ValidCase{Line("/v1/chat/completions",
                       "'messages':[{'role':'user','content':[{'type':'text','text':'a'},"
                       "{'type':'text','text':'b'}]}]"),
                  "prompt { chat { messages { role: 'user' content: 'a\\nb' } } }"},
        ValidCase{
            Line("/v1/chat/completions",
                 "'messages':[{'role':'assistant','content':null,'tool_calls':[{'id':'1'}],"
                 "'refusal':null},{'role':'tool','content':'4','tool_call_id':'1'}]"),
            "prompt { chat { messages { role: 'assistant' tool_calls_json: "
            "'[{\"id\":\"1\"}]' } messages { role: 'tool' content: '4' tool_call_id: '1' } } }"},
        ValidCase{Line("/v1/chat/completions",
                       "'messages':[{'role':'assistant','reasoning_content':'r','name':'n'}]"),
                  "prompt { chat { messages { role: 'assistant' reasoning_content: 'r' name: 'n' } "
                  "} }"},
        ValidCase{
            Line("/v1/chat/completions",
                 "'messages':[{'role':'user','content':'\\u00e9\\ud83d\\ude00'}]"),
            "prompt { chat { messages { role: 'user' content: '\xc3\xa9\xf0\x9f\x98\x80' } } }"}));

INSTANTIATE_TEST_SUITE_P(
    Completion, ValidLineTest,
    ::testing::Values(
        ValidCase{CompletionLine(""), absl::StrCat(kText, "}")},
        ValidCase{CompletionLine(",'max_tokens':3"),
                  "prompt { text: 'hi' } sampling { max_tokens: 3 }"},
        ValidCase{CompletionLine(",'logprobs':2"), absl::StrCat(kText, "logprobs: 2 }")},
        ValidCase{Line("/v1/completions", "'prompt':[1,2,3]"),
                  "prompt { token_ids { ids: [1, 2, 3] } } sampling { max_tokens: 16 }"},
        ValidCase{Line("/v1/completions", "'prompt':['hi']"), absl::StrCat(kText, "}")},
        ValidCase{Line("/v1/completions", "'prompt':[[4]]"),
                  "prompt { token_ids { ids: 4 } } sampling { max_tokens: 16 }"},
        ValidCase{Line("/v1/completions", "'prompt':''"),
                  "prompt { text: '' } sampling { max_tokens: 16 }"}));

struct InvalidCase {
  std::string line;
  std::string code;
  std::string message;  // a part of it
  std::string custom_id = "a";
};
void PrintTo(const InvalidCase& c, std::ostream* out) { *out << c.message; }

class InvalidLineTest : public ::testing::TestWithParam<InvalidCase> {};

TEST_P(InvalidLineTest, IsRefusedByName) {
  const ParsedLine parsed = ParseBatchLine(GetParam().line);
  ASSERT_TRUE(parsed.error.has_value()) << GetParam().line;
  EXPECT_EQ(parsed.error->code, GetParam().code) << GetParam().line;
  EXPECT_THAT(parsed.error->message, HasSubstr(GetParam().message));
  EXPECT_EQ(parsed.request.custom_id(), GetParam().custom_id);
}

INSTANTIATE_TEST_SUITE_P(
    NotJson, InvalidLineTest,
    ::testing::Values(
        InvalidCase{"", "invalid_json", "not JSON", ""},
        InvalidCase{"{", "invalid_json", "not JSON", ""},
        InvalidCase{"{}x", "invalid_json", "not JSON", ""},
        InvalidCase{"{\"custom_id\": \"\xff\"}", "invalid_json", "UTF-8", ""},
        InvalidCase{"{\"custom_id\": \"\\ud800\"}", "invalid_json", "surrogate", ""},
        InvalidCase{"{\"custom_id\": NaN}", "invalid_json", "not JSON", ""},
        InvalidCase{ChatLine(",'temperature':1e999"), "invalid_json", "number overflow", ""},
        InvalidCase{std::string("{\"a\": \0}", 9), "invalid_json", "not JSON", ""},
        InvalidCase{std::string(1'000'000, '['), "invalid_json", "deeper than 64", ""},
        InvalidCase{ChatLine(absl::StrCat(",'tools':", std::string(70, '['), std::string(70, ']'))),
                    "invalid_json", "deeper than 64", ""}));

INSTANTIATE_TEST_SUITE_P(
    Envelope, InvalidLineTest,
    ::testing::Values(
        InvalidCase{"[]", "invalid_request", "must be an object", ""},
        InvalidCase{"7", "invalid_request", "must be an object", ""},
        InvalidCase{"{}", "invalid_request", "custom_id is missing", ""},
        InvalidCase{R"({"custom_id": 5})", "invalid_request", "custom_id: must be a string, is 5",
                    ""},
        InvalidCase{R"({"custom_id": ""})", "invalid_request", "custom_id is empty", ""},
        InvalidCase{absl::StrCat(R"({"custom_id": ")", std::string(257, 'x'), "\"}"),
                    "invalid_request", "custom_id has 257 bytes, limit 256", ""},
        InvalidCase{R"({"custom_id": "a"})", "invalid_request", "method is missing"},
        InvalidCase{R"({"custom_id": "a", "method": "GET"})", "invalid_request",
                    "must be POST, is GET"},
        InvalidCase{R"({"custom_id": "a", "method": "POST"})", "invalid_request", "url is missing"},
        InvalidCase{Line("/v1/embeddings", ""), "invalid_request",
                    "url: must be /v1/chat/completions or /v1/completions, is /v1/embeddings"},
        InvalidCase{R"({"custom_id":"a","method":"POST","url":"/v1/completions"})",
                    "invalid_request", "body is missing"},
        InvalidCase{R"({"custom_id":"a","method":"POST","url":"/v1/completions","body":[]})",
                    "invalid_request", "body: must be an object"}));

INSTANTIATE_TEST_SUITE_P(
    Body, InvalidLineTest,
    ::testing::Values(
        InvalidCase{Line("/v1/chat/completions", ""), "invalid_request",
                    "body.messages is missing"},
        InvalidCase{Line("/v1/completions", ""), "invalid_request", "body.prompt is missing"},
        InvalidCase{ChatLine(",'temprature':1"), "invalid_request", "body.temprature: unknown"},
        InvalidCase{ChatLine(",'prompt':'x'"), "invalid_request", "body.prompt: unknown"},
        InvalidCase{CompletionLine(",'messages':[]"), "invalid_request", "body.messages: unknown"},
        InvalidCase{CompletionLine(",'echo':true"), "invalid_request", "body.echo: unknown"},
        InvalidCase{ChatLine(",'temperature':'1'"), "invalid_request",
                    "body.temperature: must be a number, is \"1\""},
        InvalidCase{ChatLine(",'top_k':1.5"), "invalid_request", "body.top_k: must be an integer"},
        InvalidCase{ChatLine(",'top_k':3000000000"), "invalid_request", "32 bits, is 3000000000"},
        InvalidCase{ChatLine(",'top_k':-3000000000"), "invalid_request", "32 bits"},
        InvalidCase{ChatLine(",'seed':-1"), "invalid_request",
                    "body.seed: must be an integer of 0"},
        InvalidCase{ChatLine(",'ignore_eos':1"), "invalid_request",
                    "body.ignore_eos: must be true"},
        InvalidCase{ChatLine(",'stop':5"), "invalid_request", "body.stop: must be a string or"},
        InvalidCase{ChatLine(",'stop':[5]"), "invalid_request",
                    "body.stop: must be an array of strings"},
        InvalidCase{ChatLine(",'stop_token_ids':['a']"), "invalid_request", "body.stop_token_ids"},
        InvalidCase{ChatLine(",'logit_bias':{'x':1}"), "invalid_request",
                    "key \"x\" is not a token id"},
        InvalidCase{ChatLine(",'logit_bias':[1]"), "invalid_request",
                    "body.logit_bias: must be an object"},
        InvalidCase{ChatLine(",'logprobs':3"), "invalid_request",
                    "body.logprobs: must be true or false"},
        InvalidCase{ChatLine(",'top_logprobs':3"), "invalid_request", "body.top_logprobs: needs"},
        InvalidCase{CompletionLine(",'logprobs':true"), "invalid_request",
                    "body.logprobs: must be an integer"},
        InvalidCase{ChatLine(",'max_tokens':5,'max_completion_tokens':6"), "invalid_request",
                    "body.max_completion_tokens: 6 contradicts max_tokens, which is 5"},
        InvalidCase{ChatLine(",'tool_choice':'required'"), "invalid_request", "body.tool_choice"},
        InvalidCase{ChatLine(",'response_format':{'type':'json_object'}"), "invalid_request",
                    "body.response_format"},
        InvalidCase{Line("/v1/completions", "'prompt':['a','b']"), "invalid_request",
                    "has 2 prompts"},
        InvalidCase{Line("/v1/completions", "'prompt':[]"), "invalid_request",
                    "body.prompt: must be"},
        InvalidCase{Line("/v1/completions", "'prompt':[1,'a']"), "invalid_request",
                    "body.prompt: must be"},
        InvalidCase{
            Line("/v1/completions", "'prompt':{}"), "invalid_request",
            "body.prompt: must be a string or a non-empty array of token ids, is an object"}));

INSTANTIATE_TEST_SUITE_P(
    BadMessages, InvalidLineTest,
    ::testing::Values(
        InvalidCase{Line("/v1/chat/completions", "'messages':'hi'"), "invalid_request",
                    "body.messages: must be an array"},
        InvalidCase{Line("/v1/chat/completions", "'messages':[]"), "invalid_request",
                    "body.messages: must have at least one"},
        InvalidCase{Line("/v1/chat/completions", "'messages':[5]"), "invalid_request",
                    "body.messages: [0] must be an object"},
        InvalidCase{Line("/v1/chat/completions", "'messages':[{'content':'x'}]"), "invalid_request",
                    "[0] role is missing"},
        InvalidCase{Line("/v1/chat/completions", "'messages':[{'role':'user'}]"), "invalid_request",
                    "[0] content is missing"},
        InvalidCase{ChatLine(",'messages':[{'role':'user','content':'x','weight':1}]"),
                    "invalid_request", "[0] weight: unknown"},
        InvalidCase{ChatLine(",'messages':[{'role':'user','content':[{'type':'image_url'}]}]"),
                    "invalid_request", "[0] content: part 0 is not"},
        InvalidCase{ChatLine(",'messages':[{'role':'user','content':[{'type':'text'}]}]"),
                    "invalid_request", "part 0 has no text"},
        InvalidCase{ChatLine(",'messages':[{'role':'user','content':5}]"), "invalid_request",
                    "[0] content: must be a string"}));

TEST(ParseBatchLineTest, LogitBias) {
  const ParsedLine parsed = ParseBatchLine(ChatLine(",'logit_bias':{'5':-100,'7':1.5}"));
  ASSERT_FALSE(parsed.error.has_value());
  const auto& bias = parsed.request.sampling().logit_bias();
  EXPECT_EQ(bias.size(), 2);
  EXPECT_EQ(bias.at(5), -100);
  EXPECT_EQ(bias.at(7), 1.5);
}

TEST(ParseBatchLineTest, KeysBesideTheBodyAreIgnored) {
  const ParsedLine parsed = ParseBatchLine(
      R"({"custom_id":"a","method":"POST","url":"/v1/completions","body":{"prompt":"x"},"note":1})");
  EXPECT_FALSE(parsed.error.has_value());
  EXPECT_EQ(parsed.kind, RowKind::kCompletion);
}

TEST(ParseBatchLineTest, TheJobsOwnMaxTokensReplaceTheCompletionDefault) {
  const ParsedLine parsed =
      ParseBatchLine(CompletionLine(""), {.default_completion_tokens = false});
  EXPECT_FALSE(parsed.request.sampling().has_max_tokens());
}

// Also behind an escaped quote and behind an escaped backslash, which does not escape the next
// quote.
TEST(ParseBatchLineTest, BracketsInTextAreNotDepth) {
  const std::string brackets(1000, '[');
  for (const std::string& text : {brackets, "\\\"" + brackets, brackets + "\\\\"}) {
    const ParsedLine parsed =
        ParseBatchLine(CompletionLine(absl::StrCat(",\"user\":\"", text, "\"")));
    EXPECT_FALSE(parsed.error.has_value()) << parsed.error->message;
  }
}

// --- Output lines ---

v1::BatchJob TestJob() {
  v1::BatchJob job;
  job.set_job_id("job-xyz");
  job.mutable_create_time()->set_seconds(1234);
  return job;
}

v1::BatchResult TestResult() {
  v1::BatchResult result;
  TextFormat::ParseFromString(
      R"(row: 7 custom_id: "a" usage { prompt_tokens: 3 completion_tokens: 2 }
         choices { text: "h\303\251" finish_reason: FINISH_REASON_LENGTH
                   logprobs { token_id: 1 token: "h" logprob: -0.5
                              top_logprobs { token_id: 1 token: "h" logprob: -0.5 } }
                   logprobs { token_id: 2 token: "\357\277\275" logprob: -1 } })",
      &result);
  return result;
}

TEST(ResultFormatterTest, Chat) {
  const std::string line = ResultFormatter(TestJob(), "m").Format(TestResult(), RowKind::kChat);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(Json::parse(line), Json::parse(R"({
    "id": "batch_req_xyz-7", "custom_id": "a", "error": null,
    "response": {"status_code": 200, "request_id": "req_xyz-7", "body": {
      "id": "chatcmpl-xyz-7", "object": "chat.completion", "created": 1234, "model": "m",
      "choices": [{"index": 0, "message": {"role": "assistant", "content": "hé"},
        "logprobs": {"content": [
          {"token": "h", "logprob": -0.5, "bytes": [104],
           "top_logprobs": [{"token": "h", "logprob": -0.5, "bytes": [104]}]},
          {"token": "�", "logprob": -1.0, "bytes": null, "top_logprobs": []}]},
        "finish_reason": "length", "stop_reason": null}],
      "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}}})"));
}

TEST(ResultFormatterTest, SharedPromptTokensAreCached) {
  v1::BatchResult result = TestResult();
  result.mutable_usage()->set_shared_prompt_tokens(2);
  const Json line =
      Json::parse(ResultFormatter(TestJob(), "m").Format(result, RowKind::kCompletion));
  EXPECT_EQ(line["response"]["body"]["usage"],
            Json::parse(R"({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                            "prompt_tokens_details": {"cached_tokens": 2}})"));
}

TEST(ResultFormatterTest, Completion) {
  const Json body =
      Json::parse(ResultFormatter(TestJob(), "m")
                      .Format(TestResult(), RowKind::kCompletion))["response"]["body"];
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["id"], "cmpl-xyz-7");
  EXPECT_EQ(body["choices"], Json::parse(R"([{"index": 0, "text": "hé",
    "logprobs": {"tokens": ["h", "�"], "token_logprobs": [-0.5, -1.0],
                 "top_logprobs": [{"h": -0.5}, {}], "text_offset": [0, 1]},
    "finish_reason": "length", "stop_reason": null}])"));
}

TEST(ResultFormatterTest, WithoutAKindAChoiceHasTheFieldsOfBoth) {
  v1::BatchResult result = TestResult();
  result.mutable_choices(0)->clear_logprobs();
  result.mutable_choices(0)->set_stop_reason("END");
  const Json choice =
      Json::parse(ResultFormatter(TestJob(), "m")
                      .Format(result, std::nullopt))["response"]["body"]["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "hé");
  EXPECT_EQ(choice["text"], "hé");
  EXPECT_EQ(choice["logprobs"], nullptr);
  EXPECT_EQ(choice["stop_reason"], "END");
}

TEST(ResultFormatterTest, Errors) {
  struct Case {
    absl::StatusCode code;
    std::string reason;  // of an ErrorInfo; empty: none
    std::string expected;
  };
  for (const Case& c :
       std::vector<Case>{{absl::StatusCode::kInvalidArgument, "", "invalid_argument"},
                         {absl::StatusCode::kInvalidArgument, "PROMPT_TOO_LONG", "prompt_too_long"},
                         {absl::StatusCode::kCancelled, "", "batch_cancelled"},
                         {absl::StatusCode::kDeadlineExceeded, "", "batch_expired"}}) {
    v1::BatchResult result;
    result.set_custom_id("a");
    result.mutable_error()->set_code(static_cast<int>(c.code));
    result.mutable_error()->set_message("why");
    if (!c.reason.empty()) {
      google::rpc::ErrorInfo info;
      info.set_reason(c.reason);
      result.mutable_error()->add_details()->PackFrom(info);
    }
    const Json line = Json::parse(ResultFormatter(TestJob(), "m").Format(result, RowKind::kChat));
    EXPECT_EQ(line["response"], nullptr);
    EXPECT_EQ(line["error"], (Json{{"code", c.expected}, {"message", "why"}}));
  }
}

TEST(FormatLineErrorTest, NamesTheLine) {
  EXPECT_EQ(Json::parse(FormatLineError(12, "a", {"invalid_json", "not JSON"})), Json::parse(R"({
    "id": "batch_req_line-12", "custom_id": "a", "response": null,
    "error": {"code": "invalid_json", "message": "line 12: not JSON", "line": 12}})"));
  EXPECT_EQ(Json::parse(FormatLineError(1, "", {"x", "y"}))["custom_id"], nullptr);
}

}  // namespace
}  // namespace moelight::client
