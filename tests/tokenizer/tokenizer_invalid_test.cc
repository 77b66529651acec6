// Goal: a hostile or unsupported tokenizer.json gives an error that names the place and the rule.
#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace moelight {
namespace {

using testing::HasSubstr;

constexpr char kVocab[] = R"("vocab":{"a":0,"b":1,"ab":2})";

std::string Model(const std::string& fields) {
  return R"({"model":{"type":"BPE",)" + fields + "}}";
}

// A file whose model is fine and whose other sections are `sections`.
std::string Sections(const std::string& sections) {
  return absl::StrCat("{", sections, R"(,"model":{"type":"BPE",)", kVocab,
                      R"(,"merges":["a b"]}})");
}

std::string Error(const std::string& json) {
  const auto tokenizer = Tokenizer::FromJson(json);
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << json.substr(0, 200);
  return std::string(tokenizer.status().message());
}

TEST(TokenizerInvalidTest, NamesThePlaceAndTheRule) {
  const struct {
    std::string json, message;
  } kCases[] = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"[]", "not a JSON object"},
      {"{}", "no model section"},
      {"{\"a\":\"\xFF\"}", "not JSON"},
      {R"({"a":1e999})", "not JSON"},
      {R"({"a":1,"a":2})", "appears twice"},
      {R"({"model":3})", "model is not an object"},
      {R"({"model":{"type":"Unigram","vocab":[["a",[1.5]],["b",{"c":2}]]}})",
       "model type \"Unigram\" is not supported; supported: BPE"},
      {Model(R"("vocab":{"a":-1})"), "id -1 of \"a\" is not in [0, 1048576)"},
      {Model(R"("vocab":{"a":1048576})"), "is not in [0, 1048576)"},
      {Model(R"("vocab":{"a":18446744073709551615})"), "is not in"},
      {Model(R"("vocab":{"a":0.5})"), "id of \"a\" is not an integer"},
      {Model(R"("vocab":{"a":[0]})"), "id of \"a\" is not an integer"},
      {Model(R"("vocab":{"a":0,"b":0})"), "\"a\" and \"b\" have the same id 0"},
      {Model(R"("vocab":{"a":0,"a":1})"), "token \"a\" appears twice"},
      {Model(std::string(kVocab) + R"(,"merges":["a b","a c"])"), "merges[1]: \"c\" is not in"},
      {Model(std::string(kVocab) + R"(,"merges":[["b","a"]])"), "merges[0]: \"ba\" is the result"},
      {Model(std::string(kVocab) + R"(,"merges":["ab"])"), "merges[0] is neither"},
      {Model(std::string(kVocab) + R"(,"merges":["a b c"])"), "merges[0] is neither"},
      {Model(std::string(kVocab) + R"(,"merges":[["a"]])"), "merges[0] has 1 parts"},
      {Model(std::string(kVocab) + R"(,"merges":[7])"), "merges[0] is neither"},
      {Model(std::string(kVocab) + R"(,"merges":[[["a"]]])"), "merges[0] is neither"},
      {Model(std::string(kVocab) + R"(,"dropout":0.1)"), "model.dropout"},
      {Model(std::string(kVocab) + R"(,"fuse_unk":"yes")"), "model.fuse_unk is not true or false"},
      {Sections(R"("normalizer":{"type":"Nmt"})"),
       "normalizer type \"Nmt\" is not supported; supported: NFC, NFD"},
      {Sections(R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"X"}]})"),
       "normalizer.normalizers[1] type \"X\""},
      {Sections(R"("normalizer":{"type":"Replace","pattern":{"Regex":"("},"content":""})"),
       "normalizer.pattern: regex"},
      {Sections(R"("normalizer":{"type":"Replace","pattern":"x","content":""})"),
       "normalizer.pattern is neither"},
      {Sections(R"("pre_tokenizer":{"type":"BertPreTokenizer"})"), "supported: Split, ByteLevel"},
      {Sections(R"("pre_tokenizer":{"type":"Split","pattern":{"String":"x"},"behavior":"Odd"})"),
       "pre_tokenizer.behavior \"Odd\""},
      {Sections(R"("pre_tokenizer":{"type":"Metaspace","replacement":"ab"})"),
       "is not one character"},
      {Sections(R"("post_processor":{"type":"BertProcessing"})"), "supported: TemplateProcessing"},
      {Sections(R"("post_processor":{"type":"TemplateProcessing",
         "single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}]})"),
       "no ids for \"<s>\""},
      {Sections(R"("post_processor":{"type":"TemplateProcessing","single":[]})"), "exactly once"},
      {Sections(R"("post_processor":{"type":"TemplateProcessing","special_tokens":
         {"x":{"ids":[9]}},"single":[{"SpecialToken":{"id":"x"}},{"Sequence":{"id":"A"}}]})"),
       "no token with id 9"},
      {Sections(R"("decoder":{"type":"WordPiece"})"), "supported: ByteLevel, Replace"},
      {Sections(R"("decoder":{"type":"Strip","content":" ","start":-1,"stop":0})"),
       "decoder.start is not an integer from 0"},
      {Sections(R"("added_tokens":[{"id":-5,"content":"x"}])"), "added_tokens[0].id"},
      {Sections(R"("added_tokens":[{"id":99999999999,"content":"x"}])"), "added_tokens[0].id"},
      {Sections(R"("added_tokens":[{"id":1,"content":"x"}])"), "contradicts model.vocab"},
      {Sections(R"("added_tokens":[{"id":7,"content":"a"}])"), "contradicts model.vocab"},
      {Sections(R"("added_tokens":[{"id":7,"content":"x"},{"id":7,"content":"y"}])"),
       "contradicts an earlier"},
      {Sections(R"("added_tokens":[{"id":7,"content":")" + std::string(600, 'x') + R"("}])"),
       "600 bytes, limit 512"},
  };
  for (const auto& c : kCases) EXPECT_THAT(Error(c.json), HasSubstr(c.message)) << c.json;
}

TEST(TokenizerInvalidTest, LimitsDepth) {
  const std::string open(1'000'000, '[');
  const std::string close(1'000'000, ']');
  EXPECT_THAT(Error("{\"a\":" + open + close + "}"), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(Error(R"({"model":{"vocab":)" + open), HasSubstr("nested deeper than 64"));
}

TEST(TokenizerInvalidTest, LimitsCounts) {
  std::string vocab = R"({"model":{"vocab":{"a":0)";
  std::string merges = absl::StrCat(R"({"model":{"type":"BPE",)", kVocab, R"(,"merges":["a b")");
  std::string values = "{\"a\":[0";
  for (int64_t i = 1; i <= kMaxVocabSize; ++i) absl::StrAppend(&vocab, ",\"", i, "\":", i);
  for (int64_t i = 1; i <= kMaxMerges; ++i) absl::StrAppend(&merges, ",\"a b\"");
  for (int64_t i = 1; i <= kMaxConfigValues; ++i) absl::StrAppend(&values, ",0");
  EXPECT_THAT(Error(vocab + "}}}"), HasSubstr("more than 1048576 tokens"));
  EXPECT_THAT(Error(merges + "]}}"), HasSubstr("more than 786432 merges"));
  EXPECT_THAT(Error(values + "]}"), HasSubstr("more than 1048576 JSON values"));
}

// What older files leave out or spell differently still loads.
TEST(TokenizerInvalidTest, AcceptsOlderSpellings) {
  for (const std::string merges :
       {R"(["a b"])", R"([["a","b"]])", R"(["#version: 0.2","a b"])", R"(["a b","a b"])"}) {
    const auto tokenizer =
        Tokenizer::FromJson(absl::StrCat("{\"model\":{", kVocab, ",\"merges\":", merges, "}}"));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_THAT(*(*tokenizer)->Encode("ab"), testing::ElementsAre(2));
  }
}

}  // namespace
}  // namespace moelight
