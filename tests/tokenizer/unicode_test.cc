#include "engine/tokenizer/unicode.h"

#include <algorithm>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/tokenizer/unicode_regex.h"
#include "engine/tokenizer/unicode_regex_syntax.h"
#include "engine/tokenizer/unicode_tables.h"

namespace moelight {
namespace {

using testing::HasSubstr;

TEST(UnicodeTest, FindsInvalidUtf8) {
  const struct {
    std::string bytes;
    std::optional<size_t> offset;
  } kCases[] = {
      {"", std::nullopt},
      {"a\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80", std::nullopt},
      {"\xF4\x8F\xBF\xBF", std::nullopt},  // U+10FFFF
      {"ab\x80", 2},                       // continuation without a lead
      {"\xC0\xAF", 0},                     // overlong
      {"\xE0\x80\xAF", 0},                 // overlong
      {"\xED\xA0\x80", 0},                 // surrogate
      {"\xF4\x90\x80\x80", 0},             // past U+10FFFF
      {"x\xE4\xBD", 1},                    // cut short
  };
  for (const auto& c : kCases) EXPECT_EQ(FindInvalidUtf8(c.bytes), c.offset) << c.bytes;
}

TEST(UnicodeTest, DecodesWhatItEncodes) {
  for (const char32_t character : {0x0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFD, 0x10000, 0x10FFFF}) {
    std::string text;
    AppendUtf8(character, &text);
    EXPECT_EQ(DecodeUtf8(text, 0), character);
    EXPECT_EQ(Utf8Length(text[0]), text.size());
    EXPECT_EQ(PreviousUtf8(absl::StrCat("a", text), text.size() + 1), 1);
  }
}

// The second column is what a lossy conversion of all bytes at once gives.
TEST(Utf8AssemblerTest, ReplacesMaximalInvalidPrefixes) {
  const std::vector<std::pair<std::string, std::string>> kCases = {
      {"a\xE4\xBD\xA0", "a\u4F60"},
      {"\xE4\xBD", "\uFFFD"},
      {"\xE4\xBDz", "\uFFFDz"},
      {"\xFF\xFE", "\uFFFD\uFFFD"},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80", "\uFFFD\U0001F600"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},
  };
  for (const auto& [bytes, expected] : kCases) {
    Utf8Assembler assembler;
    std::string text;
    for (const char byte : bytes) assembler.Append(std::string(1, byte), &text);
    assembler.Flush(&text);
    EXPECT_EQ(text, expected);
  }
}

TEST(UnicodeTest, StandInsKeepLengthAndOrder) {
  char32_t done = 0;
  for (const StandInRange& range : RegexStandIns()) {
    EXPECT_GT(range.first, done);
    EXPECT_LE(range.first, range.last);
    done = range.last;
    for (const char32_t character : {range.first, range.last}) {
      std::string text;
      std::string copy;
      AppendUtf8(character, &text);
      EXPECT_TRUE(SubstituteForRegex(absl::StrCat("a", text), &copy));
      EXPECT_EQ(copy.size(), 1 + text.size());
    }
  }
  std::string copy;
  EXPECT_FALSE(SubstituteForRegex("plain \u4F60 \U0001F600", &copy));
}

std::string Matches(const std::string& pattern, const std::string& text) {
  const auto regex = UnicodeRegex::Compile(pattern);
  if (!regex.ok()) return std::string(regex.status().message());
  std::vector<ByteSpan> matches;
  const absl::Status status = (*regex)->FindAll(text, &matches);
  if (!status.ok()) return std::string(status.message());
  std::string result;
  for (const ByteSpan& match : matches) {
    absl::StrAppend(&result, "(", text.substr(match.begin, match.end - match.begin), ")");
  }
  return result;
}

TEST(UnicodeRegexTest, MatchesAsOniguruma) {
  EXPECT_EQ(Matches(R"(\s)", "a\u180E \u0085\u3000b"), "( )(\u0085)(\u3000)");
  EXPECT_EQ(Matches(R"(\p{S}+)", "\U0001FAE9\U0001F6DC"),
            "(\U0001FAE9\U0001F6DC)");  // since 15, 16
  EXPECT_EQ(Matches(R"(\p{Han}+)", "\u4F60\u3001\U0002EBF0"), "(\u4F60)(\U0002EBF0)");
  EXPECT_EQ(Matches(R"(\w+)", "e\u0301\u00BD x"), "(e\u0301\u00BD)(x)");
  EXPECT_EQ(Matches(R"([\w]+)", "e\u0301\u00BD x"), "(e\u0301)(x)");
  EXPECT_EQ(Matches(R"((?i:'s))", "'\u017F"), "('\u017F)");
  EXPECT_EQ(Matches("^a$", "a\na"), "(a)(a)");
  EXPECT_EQ(Matches("x*", "axxb"), "()(xx)()");
}

TEST(UnicodeRegexTest, RefusesWhatDiffers) {
  for (const char* pattern :
       {R"(\h)", R"(\R)", R"(\bx)", R"(\1)", R"([a[b]])", R"([a&&b])", R"((*ACCEPT))", R"((?m:.))",
        R"(a{,3})", R"(a{1,2}+)", R"([\W])", R"(\pL)", "a\\"}) {
    EXPECT_THAT(std::string(UnicodeRegex::Compile(pattern).status().message()),
                HasSubstr("is not supported"))
        << pattern;
  }
  EXPECT_FALSE(UnicodeRegex::Compile("(").ok());
  EXPECT_FALSE(UnicodeRegex::Compile(R"(\p{Klingon})").ok());
  EXPECT_FALSE(UnicodeRegex::Compile(std::string(100'000, 'a')).ok());
}

TEST(UnicodeRegexTest, EndsHostileSearches) {
  EXPECT_THAT(Matches("(a|aa|a?)+$", absl::StrCat(std::string(60, 'a'), "b")), HasSubstr("limit"));
}

}  // namespace
}  // namespace moelight
