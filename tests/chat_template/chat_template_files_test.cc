// Goal: the template and the special tokens are found wherever a model folder may keep them.
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/tokenizer/chat_template.h"

namespace moelight {
namespace {

class ChatTemplateFilesTest : public testing::Test {
 protected:
  ChatTemplateFilesTest()
      : folder_(testing::TempDir() + "/chat_template_" +
                testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~ChatTemplateFilesTest() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }

  absl::StatusOr<std::string> Render(const ChatPrompt& prompt = {}) {
    const auto chat_template = ChatTemplate::FromModelFolder(folder_);
    if (!chat_template.ok()) return chat_template.status();
    const auto rendered = (*chat_template)->Render(prompt);
    if (!rendered.ok()) return rendered.status();
    return rendered->text;
  }

  const std::string folder_;
};

TEST_F(ChatTemplateFilesTest, ReadsAStringAndBothSpellingsOfTokens) {
  Write("tokenizer_config.json", R"({
    "chat_template": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ image_token }}|{{ x }}",
    "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
    "image_token": "<img>", "x": "no"})");
  EXPECT_EQ(*Render(), "<s>|</s>||<img>|");
}

TEST_F(ChatTemplateFilesTest, TheJinjaFileWins) {
  Write("tokenizer_config.json", R"({"chat_template": "config", "bos_token": "<s>"})");
  Write("chat_template.jinja", "file {{ bos_token }}\n");
  EXPECT_EQ(*Render(), "file <s>");
}

TEST_F(ChatTemplateFilesTest, TheJinjaFileNeedsNoConfig) {
  Write("chat_template.jinja", "alone{{ bos_token }}");
  EXPECT_EQ(*Render(), "alone");
}

TEST_F(ChatTemplateFilesTest, AListGivesToolPromptsTheirOwn) {
  Write("tokenizer_config.json", R"({"chat_template": [
    {"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools[0] }}"},
    {"name": "rag", "template": "{% nonsense %}"}]})");
  EXPECT_EQ(*Render(), "plain");
  ChatPrompt prompt;
  prompt.tools_json = "[7]";
  EXPECT_EQ(*Render(prompt), "7");
}

TEST_F(ChatTemplateFilesTest, NotFoundWithoutATemplate) {
  EXPECT_TRUE(absl::IsNotFound(Render().status()));
  Write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_TRUE(absl::IsNotFound(Render().status()));
  Write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_TRUE(absl::IsNotFound(Render().status()));
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "x"}]})");
  EXPECT_TRUE(absl::IsNotFound(Render().status()));
}

TEST_F(ChatTemplateFilesTest, BadFilesAreNamed) {
  const std::map<std::string, std::string> bad = {
      {"[]", "tokenizer_config.json: is not a JSON object"},
      {"{\"a\": ", "tokenizer_config.json:1:"},
      {R"({"chat_template": 5})", "chat_template must be a string"},
      {R"({"chat_template": [{"name": "default"}]})", "chat_template must be a string"},
      {R"({"chat_template": "a\n{{ 1 + }}"})", "tokenizer_config.json: chat template line 2: "},
      {"{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}", "tokenizer_config.json: "},
  };
  for (const auto& [config, message] : bad) {
    SCOPED_TRACE(config);
    Write("tokenizer_config.json", config);
    const absl::Status status = Render().status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(message));
  }
  Write("tokenizer_config.json", "{}");
  Write("chat_template.jinja", "\xff");
  EXPECT_TRUE(absl::IsInvalidArgument(Render().status()));
}

}  // namespace
}  // namespace moelight
