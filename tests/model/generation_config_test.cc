// Goal: defaults are read under SamplingParams' names and ranges; end-of-sequence tokens come from
// generation_config.json first and config.json otherwise.
#include "engine/model/generation_config.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/model_files.h"

namespace moelight {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelConfig Model() {
  ModelConfig model;
  model.vocab_size = 100;
  model.eos_token_ids = {5};
  return model;
}

TEST(GenerationConfigTest, ReadsWhatPublishedFilesHold) {
  const auto config = ParseGenerationConfig(
      R"({"bos_token_id": 43, "do_sample": true, "eos_token_id": [45, 43], "pad_token_id": 43,
          "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05, "min_p": 0,
          "max_new_tokens": 512, "transformers_version": "4.51.0"})",
      "g", Model());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(45, 43));
  EXPECT_EQ(config->bos_token_id, 43);
  EXPECT_FLOAT_EQ(*config->temperature, 0.6f);
  EXPECT_EQ(config->top_k, 20);
  EXPECT_FLOAT_EQ(*config->top_p, 0.95f);
  EXPECT_FLOAT_EQ(*config->repetition_penalty, 1.05f);
  EXPECT_FLOAT_EQ(*config->min_p, 0.0f);
  EXPECT_EQ(config->max_new_tokens, 512);
}

TEST(GenerationConfigTest, AbsentAndNullLeaveTheDefaults) {
  for (const char* text : {"{}", R"({"temperature": null, "eos_token_id": null, "top_k": null})",
                           R"({"do_sample": false})"}) {
    const auto config = ParseGenerationConfig(text, "g", Model());
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_THAT(config->eos_token_ids, ElementsAre(5));
    EXPECT_FALSE(config->temperature.has_value());
    EXPECT_FALSE(config->top_k.has_value());
  }
}

TEST(GenerationConfigTest, FolderWithAndWithoutTheFile) {
  TempFolder folder;
  const auto absent = LoadGenerationConfig(folder.path(), Model());
  ASSERT_TRUE(absent.ok()) << absent.status();
  EXPECT_THAT(absent->eos_token_ids, ElementsAre(5));
  folder.Write("generation_config.json", R"({"eos_token_id": 7})");
  EXPECT_THAT(LoadGenerationConfig(folder.path(), Model())->eos_token_ids, ElementsAre(7));
}

TEST(GenerationConfigTest, RefusesByField) {
  const struct {
    const char* text;
    const char* message;
  } kCases[] = {
      {"[]", "must be a JSON object"},
      {R"({"temperature": -1})", "temperature is -1"},
      {R"({"temperature": "hot"})", "temperature is \"hot\""},
      {R"({"top_p": 0})", "top_p is 0"},
      {R"({"top_p": 1.5})", "top_p is 1.5"},
      {R"({"top_k": -2})", "top_k is -2"},
      {R"({"min_p": 2})", "min_p is 2"},
      {R"({"repetition_penalty": 0})", "repetition_penalty is 0"},
      {R"({"eos_token_id": 100})", "eos_token_id is 100"},
      {R"({"eos_token_id": [1, -1]})", "eos_token_id is a list, of which -1"},
      {R"({"max_new_tokens": 0})", "max_new_tokens is 0"},
  };
  for (const auto& test : kCases) {
    const auto config = ParseGenerationConfig(test.text, "g", Model());
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << test.text;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(test.message));
  }
}

}  // namespace
}  // namespace moelight
