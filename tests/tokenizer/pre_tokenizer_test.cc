// Goal: each pre-tokenizer type cuts as the Hugging Face library does.
#include "engine/tokenizer/pre_tokenizer.h"

#include <string>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

// The words with '|' between them.
std::string PreTokenize(const std::string& config, const std::string& text,
                        bool at_text_start = true) {
  const auto pre_tokenizer = MakePreTokenizer(nlohmann::json::parse(config));
  if (!pre_tokenizer.ok()) return std::string(pre_tokenizer.status().message());
  PreTokens tokens{text, {{0, text.size(), at_text_start}}};
  const absl::Status status = (*pre_tokenizer)->Apply(&tokens);
  if (!status.ok()) return std::string(status.message());
  std::string words;
  for (const PreToken& word : tokens.words) {
    absl::StrAppend(&words, words.empty() ? "" : "|", tokens.Word(word));
  }
  return words;
}

TEST(PreTokenizerTest, SplitsByEveryBehavior) {
  const struct {
    std::string behavior;
    std::string at_dashes;        // the dashes are matches
    std::string between_letters;  // inverted: the letters are matches
  } kCases[] = {
      {"Removed", "a|bc", "a|b|c"},
      {"Isolated", "-|a|-|-|bc|-", "-|a|--|b|c|-"},
      {"MergedWithPrevious", "-|a-|-|bc-", "-|a--|b|c-"},
      {"MergedWithNext", "-a|-|-bc|-", "-a|--b|c|-"},
      {"Contiguous", "-|a|--|bc|-", "-|a|--|bc|-"},
  };
  for (const auto& c : kCases) {
    const auto config = [&](const char* pattern, bool invert) {
      return absl::StrCat(R"({"type":"Split","pattern":{"Regex":")", pattern, R"("},"behavior":")",
                          c.behavior, R"(","invert":)", invert ? "true" : "false", "}");
    };
    EXPECT_EQ(PreTokenize(config("-", false), "-a--bc-"), c.at_dashes) << c.behavior;
    EXPECT_EQ(PreTokenize(config("[a-z]", true), "-a--bc-"), c.between_letters) << c.behavior;
  }
}

TEST(PreTokenizerTest, Splits) {
  const struct {
    std::string config, text, expected;
  } kCases[] = {
      {"null", "a b", "a b"},
      {R"({"type":"ByteLevel","add_prefix_space":false})", "I'm  x\u00E9",
       "I|'m|\u0120|\u0120x\u00C3\u00A9"},
      {R"({"type":"ByteLevel","add_prefix_space":true,"use_regex":false})", "a b",
       "\u0120a\u0120b"},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"always"})", "a b", "_a|_b"},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"never"})", "a  b", "a|_|_b"},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"always","split":false})", " a b",
       "_a_b"},
      {R"({"type":"Digits","individual_digits":true})", "ab12\u0663", "ab|1|2|\u0663"},
      {R"({"type":"Digits","individual_digits":false})", "ab12 c", "ab|12| c"},
      {R"({"type":"Punctuation"})", "a,b$\u3002", "a|,|b|$|\u3002"},
      {R"({"type":"WhitespaceSplit"})", " a\n b", "a|b"},
      {R"({"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Digits"}]})",
       "a1 2", "a|1|2"},
      {R"({"type":"Split","pattern":{"String":"a.b"},"behavior":"Isolated"})", "xa.bayb",
       "x|a.b|ayb"},
  };
  for (const auto& c : kCases) EXPECT_EQ(PreTokenize(c.config, c.text), c.expected) << c.config;
}

TEST(PreTokenizerTest, MetaspaceFirstPrependsAtTextStartOnly) {
  const std::string config = R"({"type":"Metaspace","replacement":"_","prepend_scheme":"first"})";
  EXPECT_EQ(PreTokenize(config, "a b", true), "_a|_b");
  EXPECT_EQ(PreTokenize(config, "a b", false), "a|_b");
  const std::string after_split =
      R"({"type":"Sequence","pretokenizers":[{"type":"Digits"},)" + config + "]}";
  EXPECT_EQ(PreTokenize(after_split, "a1", true), "_a|1");
}

}  // namespace
}  // namespace moelight
