// Goal: every template and construct of tests/data/chat_templates renders as Python's Jinja2
// renders it, errors included. make_expected.py wrote expected.json.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/time/civil_time.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/tokenizer/chat_template.h"

namespace moelight {
namespace {

using Json = nlohmann::ordered_json;

std::string DataFolder() { return MOELIGHT_SOURCE_DIR "/tests/data/chat_templates/"; }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Json ReadJson(const std::string& name) { return Json::parse(ReadFile(DataFolder() + name)); }

// The clock of make_expected.py.
absl::Time FixedNow() {
  return absl::FromCivil(absl::CivilSecond(2025, 6, 1, 12, 30, 0), absl::LocalTimeZone());
}

std::vector<std::string> TemplateNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(DataFolder())) {
    if (entry.path().extension() == ".jinja") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

ChatPrompt PromptOf(const Json& test_case) {
  ChatPrompt prompt;
  for (const Json& message : test_case["messages"]) {
    ChatMessage& m = prompt.messages.emplace_back();
    m.role = message["role"];
    m.content = message["content"];
    m.name = message.value("name", "");
    m.reasoning_content = message.value("reasoning_content", "");
    m.tool_call_id = message.value("tool_call_id", "");
    if (message.contains("tool_calls")) m.tool_calls_json = message["tool_calls"].dump();
  }
  if (test_case.contains("tools")) prompt.tools_json = ReadFile(DataFolder() + "tools.json");
  if (test_case.contains("kwargs")) prompt.chat_template_kwargs_json = test_case["kwargs"].dump();
  prompt.add_generation_prompt = test_case.value("add_generation_prompt", true);
  return prompt;
}

absl::StatusOr<RenderedPrompt> Render(const std::string& source, const Json& test_case) {
  const auto chat_template =
      ChatTemplate::Parse(source, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  if (!chat_template.ok()) return chat_template.status();
  return (*chat_template)->Render(PromptOf(test_case), FixedNow());
}

void ExpectRendered(const absl::StatusOr<RenderedPrompt>& rendered, const Json& expected) {
  if (expected.contains("text")) {
    ASSERT_TRUE(rendered.ok()) << rendered.status();
    EXPECT_EQ(rendered->text, expected["text"].get<std::string>());
    return;
  }
  ASSERT_FALSE(rendered.ok()) << "rendered " << rendered->text;
  EXPECT_TRUE(absl::IsInvalidArgument(rendered.status())) << rendered.status();
  if (expected.contains("raised")) {
    EXPECT_EQ(rendered.status().message(), expected["raised"].get<std::string>());
  } else {
    EXPECT_THAT(std::string(rendered.status().message()),
                testing::StartsWith("chat template line "));
  }
}

class ChatTemplateGoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(ChatTemplateGoldenTest, RendersAsJinja2) {
  const std::string source = ReadFile(DataFolder() + GetParam() + ".jinja");
  const Json expected = ReadJson("expected.json")["templates"][GetParam()];
  for (const Json& test_case : ReadJson("cases.json")) {
    SCOPED_TRACE(test_case["name"].get<std::string>());
    ExpectRendered(Render(source, test_case), expected[test_case["name"].get<std::string>()]);
  }
}

INSTANTIATE_TEST_SUITE_P(AllTemplates, ChatTemplateGoldenTest, testing::ValuesIn(TemplateNames()),
                         [](const auto& info) { return info.param; });

TEST(ChatTemplateConstructsTest, RenderAsJinja2) {
  const Json test_case = ReadJson("constructs.json")["case"];
  const Json constructs = ReadJson("expected.json")["constructs"];
  ASSERT_GE(constructs.size(), 200);
  for (const Json& construct : constructs) {
    const std::string source = construct["source"];
    SCOPED_TRACE(source);
    ExpectRendered(Render(source, test_case), construct);
  }
}

TEST(ChatTemplateThreadsTest, OneTemplateRendersOnManyThreads) {
  const std::string source = ReadFile(DataFolder() + "gpt_oss_harmony.jinja");
  const Json expected = ReadJson("expected.json")["templates"]["gpt_oss_harmony"]["tools_offered"];
  const auto chat_template = ChatTemplate::Parse(source, {});
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  ChatPrompt prompt;
  for (const Json& test_case : ReadJson("cases.json")) {
    if (test_case["name"] == "tools_offered") prompt = PromptOf(test_case);
  }
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (std::string& text : texts) {
    threads.emplace_back([&chat_template, &prompt, &text]() {
      for (int i = 0; i < 10; ++i) text = (*chat_template)->Render(prompt, FixedNow())->text;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(texts, testing::Each(expected["text"].get<std::string>()));
}

TEST(ChatTemplateErrorTest, NamesTheLineOfTheInnermostExpression) {
  struct Case {
    std::string source;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"a\nb\n{{ 1 + 'x' }}",
       "chat template line 3: unsupported operand type(s) for +: 'int' and 'str'"},
      {"{% for x in [1] %}\n{{ x }}\n{{ missing.y }}\n{% endfor %}",
       "chat template line 3: 'missing' is undefined"},
      {"{% macro m() %}\n\n{{ {}.a.b }}{% endmacro %}\n{{ m() }}",
       "chat template line 3: 'dict object' has no attribute 'a'"},
      {"{{ 1\n+\n}}", "chat template line 3: unexpected end of print statement"},
      {"{#\n\n#}\n{% if x %}\n",
       "chat template line 4: unexpected end of template, looking for "
       "'elif' or 'else' or 'endif'"},
      {"{%- raw %}\n\n{% endraw %}\n{{ 'a' | nope }}",
       "chat template line 4: No filter named 'nope'."},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.source);
    const auto rendered = Render(c.source, Json::parse(R"({"messages": []})"));
    ASSERT_FALSE(rendered.ok());
    EXPECT_EQ(rendered.status().message(), c.message);
  }
}

}  // namespace
}  // namespace moelight
