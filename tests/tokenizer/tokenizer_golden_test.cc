// Goal: ids and text equal those of the Hugging Face tokenizers library, for every family of
// tokenizer that the supported models use; and streamed text equals text decoded at once.
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/tokenizer/incremental_detokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode.h"

namespace moelight {
namespace {

struct GoldenCase {
  std::string text;
  std::vector<TokenId> ids;        // with special tokens
  std::vector<TokenId> ids_plain;  // without
  std::string decoded;             // of ids_plain, special tokens kept
  std::string decoded_skip;        // of ids, special tokens skipped
};

class TokenizerGoldenTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string folder =
        std::string(MOELIGHT_SOURCE_DIR "/tests/data/tokenizers/") + GetParam();
    auto tokenizer = Tokenizer::FromFile(folder + "/tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    std::ifstream file(folder + "/golden.jsonl");
    for (std::string line; std::getline(file, line);) {
      const nlohmann::json json = nlohmann::json::parse(line);
      cases_.push_back(
          {json["text"], json["ids"], json["ids_plain"], json["decoded"], json["decoded_skip"]});
    }
    ASSERT_GE(cases_.size(), 300);
  }

  std::string Stream(const std::vector<TokenId>& tokens, bool skip_special_tokens) const {
    IncrementalDetokenizer detokenizer(tokenizer_.get(), skip_special_tokens);
    std::string text;
    for (const TokenId token : tokens) {
      const std::string piece = detokenizer.Append(token);
      EXPECT_EQ(FindInvalidUtf8(piece), std::nullopt) << "a piece ends within a character";
      text += piece;
    }
    return text + detokenizer.Flush();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<GoldenCase> cases_;
};

TEST_P(TokenizerGoldenTest, Encodes) {
  EncodeOptions plain;
  plain.add_special_tokens = false;
  for (const GoldenCase& golden : cases_) {
    const auto ids = tokenizer_->Encode(golden.text);
    const auto ids_plain = tokenizer_->Encode(golden.text, plain);
    ASSERT_TRUE(ids.ok() && ids_plain.ok()) << ids.status();
    EXPECT_EQ(*ids, golden.ids) << golden.text;
    EXPECT_EQ(*ids_plain, golden.ids_plain) << golden.text;
  }
}

TEST_P(TokenizerGoldenTest, Decodes) {
  for (const GoldenCase& golden : cases_) {
    EXPECT_EQ(tokenizer_->Decode(golden.ids_plain, false), golden.decoded);
    EXPECT_EQ(tokenizer_->Decode(golden.ids, true), golden.decoded_skip);
  }
}

TEST_P(TokenizerGoldenTest, StreamsTheSameText) {
  for (const GoldenCase& golden : cases_) {
    EXPECT_EQ(Stream(golden.ids_plain, false), golden.decoded);
    EXPECT_EQ(Stream(golden.ids, true), golden.decoded_skip);
  }
}

// Plain spans over text without any control token change nothing.
TEST_P(TokenizerGoldenTest, PlainSpansKeepOrdinaryText) {
  for (const GoldenCase& golden : cases_) {
    if (golden.text.find_first_of("<[") != std::string::npos) continue;
    const ByteSpan all{0, golden.text.size()};
    EncodeOptions options;
    options.plain_spans = absl::MakeConstSpan(&all, 1);
    const auto ids = tokenizer_->Encode(golden.text, options);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, golden.ids) << golden.text;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGoldenTest,
                         testing::Values("spm_prepend", "spm_metaspace", "gpt2", "llama3", "qwen2",
                                         "o200k", "deepseek"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace moelight
