// Goal: the rules around the model: added tokens, plain spans, ids, limits, threads.
#include "engine/tokenizer/tokenizer.h"

#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/tokenizer/incremental_detokenizer.h"

namespace moelight {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Characters a-d, space, x and the merge "ab", with one added token of each kind.
constexpr char kJson[] = R"({
  "added_tokens": [
    {"id": 10, "content": "<raw>", "special": true, "normalized": false},
    {"id": 11, "content": "<raw>c", "special": false, "normalized": false},
    {"id": 12, "content": "<Norm>", "special": false, "normalized": true},
    {"id": 13, "content": "<left>", "special": false, "normalized": false, "lstrip": true},
    {"id": 14, "content": "<right>", "special": false, "normalized": false, "rstrip": true},
    {"id": 15, "content": "abab", "special": false, "normalized": false, "single_word": true},
    {"id": 40, "content": "<far>", "special": true, "normalized": false}],
  "normalizer": {"type": "Lowercase"},
  "pre_tokenizer": null,
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<raw>", "type_id": 0}}, {"Sequence": {"id": "A"}},
               {"SpecialToken": {"id": "<far>", "type_id": 0}}],
    "special_tokens": {"<raw>": {"id": "<raw>", "ids": [10]}, "<far>": {"ids": [40]}}},
  "decoder": {"type": "Fuse"},
  "model": {"type": "BPE", "unk_token": "?", "fuse_unk": true,
    "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, " ": 4, "ab": 5, "?": 6},
    "merges": ["a b"]}})";

class TokenizerTest : public testing::Test {
 protected:
  TokenizerTest() : tokenizer_(*Tokenizer::FromJson(kJson)) {}

  std::vector<TokenId> Encode(absl::string_view text, std::vector<ByteSpan> plain = {}) const {
    EncodeOptions options;
    options.add_special_tokens = false;
    options.plain_spans = plain;
    auto ids = tokenizer_->Encode(text, options);
    EXPECT_TRUE(ids.ok()) << ids.status();
    return *std::move(ids);
  }

  const std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TokenizerTest, EncodesAddedTokens) {
  EXPECT_THAT(Encode("a<raw>b"), ElementsAre(0, 10, 1));
  EXPECT_THAT(Encode("<raw>cd"), ElementsAre(11, 3));            // the longest
  EXPECT_THAT(Encode("<RAW>"), ElementsAre(6, 0, 6));            // not normalized; unknowns fuse
  EXPECT_THAT(Encode("<NORM><nOrm>"), ElementsAre(12, 12));      // normalized
  EXPECT_THAT(Encode("a  <left> b"), ElementsAre(0, 13, 4, 1));  // takes the space before
  EXPECT_THAT(Encode("a <right>  b"), ElementsAre(0, 4, 14, 1));
  EXPECT_THAT(Encode("abab ababc"), ElementsAre(15, 4, 5, 5, 2));  // only as a word
}

TEST_F(TokenizerTest, AddsSpecialTokens) {
  EXPECT_THAT(*tokenizer_->Encode("ab"), ElementsAre(10, 5, 40));
  EXPECT_THAT(*tokenizer_->Encode(""), ElementsAre(10, 40));
}

TEST_F(TokenizerTest, PlainSpansHideAddedTokens) {
  const std::vector<TokenId> kSpelled = {6, 0, 6};  // "<r", "a", "w>"
  EXPECT_EQ(Encode("<raw>", {{0, 5}}), kSpelled);
  EXPECT_EQ(Encode("<raw>", {{0, 1}}), kSpelled);  // one byte is enough
  EXPECT_EQ(Encode("<raw>", {{2, 3}}), kSpelled);
  EXPECT_EQ(Encode("<raw>", {{4, 5}}), kSpelled);
  EXPECT_THAT(Encode("<raw>", {{2, 2}}), ElementsAre(10));  // an empty span hides nothing
  EXPECT_THAT(Encode("<raw><raw>", {{5, 10}}), ElementsAre(10, 6, 0, 6));
  EXPECT_THAT(Encode("<raw><raw>", {{0, 5}}), ElementsAre(6, 0, 6, 10));
  // The user's "c" must not lengthen the token before it, only fail to be part of it.
  EXPECT_THAT(Encode("<raw>c", {{5, 6}}), ElementsAre(10, 2));
  EXPECT_THAT(Encode("a<NORM>b<NORM>", {{8, 14}}), ElementsAre(0, 12, 1, 6));
  EXPECT_THAT(Encode("<NORM>", {{0, 1}}), ElementsAre(6));
}

TEST_F(TokenizerTest, RefusesBadInput) {
  const auto message = [&](absl::string_view text, std::vector<ByteSpan> plain) {
    EncodeOptions options;
    options.plain_spans = plain;
    const auto ids = tokenizer_->Encode(text, options);
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(ids.status().message());
  };
  EXPECT_THAT(message("ab\xFF", {}), HasSubstr("UTF-8 at byte 2"));
  EXPECT_THAT(message("abc", {{2, 1}}), HasSubstr("plain_spans[0]"));
  EXPECT_THAT(message("abc", {{0, 2}, {1, 3}}), HasSubstr("plain_spans[1]"));
  EXPECT_THAT(message("abc", {{0, 4}}), HasSubstr("past the 3 bytes"));
}

TEST_F(TokenizerTest, Decodes) {
  const std::vector<TokenId> ids = {10, 0, -1, 5, 9, 41, 1 << 30, 12, 40};
  EXPECT_EQ(tokenizer_->Decode(ids, false), "<raw>aab<norm><far>");
  EXPECT_EQ(tokenizer_->Decode(ids, true), "aab<norm>");
  EXPECT_EQ(tokenizer_->Decode({}, true), "");
}

TEST_F(TokenizerTest, AnswersAboutIds) {
  EXPECT_EQ(tokenizer_->vocab_size(), 41);
  EXPECT_EQ(tokenizer_->TokenToId("ab"), 5);
  EXPECT_EQ(tokenizer_->TokenToId("<far>"), 40);
  EXPECT_EQ(tokenizer_->TokenToId("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer_->IdToToken(12), "<Norm>");
  for (const TokenId id : {-1, 7, 39, 41, 1 << 30}) EXPECT_EQ(tokenizer_->IdToToken(id), "") << id;
  EXPECT_TRUE(tokenizer_->IsSpecial(10));
  EXPECT_FALSE(tokenizer_->IsSpecial(11));
  EXPECT_FALSE(tokenizer_->IsSpecial(-1));
}

TEST_F(TokenizerTest, EncodesFromManyThreads) {
  const std::vector<TokenId> expected = Encode("ab<raw> cab");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 100; ++k) EXPECT_EQ(Encode("ab<raw> cab"), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Long inputs of the kinds that make a regex or a merge quadratic.
TEST(TokenizerLongInputTest, EncodesRepetitiveText) {
  for (const char* family : {"llama3", "o200k", "deepseek", "gpt2", "spm_prepend"}) {
    const auto tokenizer = Tokenizer::FromFile(
        std::string(MOELIGHT_SOURCE_DIR "/tests/data/tokenizers/") + family + "/tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (const char* unit : {"a", "A", " ", "\n", "1", "-", "\u4F60", "e\u0301"}) {
      std::string text;
      while (text.size() < 100'000) text += unit;
      EncodeOptions options;
      options.add_special_tokens = false;
      const auto ids = (*tokenizer)->Encode(text, options);
      ASSERT_TRUE(ids.ok()) << family << " " << unit << ids.status();
      EXPECT_EQ((*tokenizer)->Decode(*ids, false), text) << family << " " << unit;
    }
  }
}

TEST(TokenizerFileTest, NamesTheFile) {
  const auto tokenizer = Tokenizer::FromFile("/nonexistent/tokenizer.json");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("/nonexistent/tokenizer.json"));
}

}  // namespace
}  // namespace moelight
