// Goal: ParseJson accepts what JSON is, and refuses the rest with a place and a reason, whatever
// its size and depth.
#include "engine/base/json.h"

#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moelight {
namespace {

using ::testing::HasSubstr;

TEST(JsonTest, BuildsEveryKindOfValue) {
  const char* kText =
      R"({"a": [1, -2, 3.5, true, null, "\u00e9"], "b": {"c": [], "d": {}}, "e": 18446744073709551615})";
  const auto parsed = ParseJson(kText, "t");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, nlohmann::json::parse(kText));
}

TEST(JsonTest, TopLevelScalars) {
  for (const char* text : {"1", "null", "\"x\"", "true", " [ ] "}) {
    const auto parsed = ParseJson(text, "t");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, nlohmann::json::parse(text));
  }
}

TEST(JsonTest, RefusesWithPlaceAndReason) {
  const struct {
    std::string text;
    const char* message;
  } kCases[] = {
      {"", "t:1:1: not valid JSON"},
      {"{", "t:1:2: not valid JSON"},
      {"{\n  \"a\": 1,\n  b\n}", "t:3:3: not valid JSON"},
      {"[1, 2] x", "t:1:8: not valid JSON"},
      {"[1,]", "t:1:4: not valid JSON"},
      {"\"\xff\"", "t:1:2: not valid JSON"},
      {"\"\xed\xa0\x80\"", "not valid JSON"},
      {"[NaN]", "t:1:2: not valid JSON"},
      {"1e999", "not valid JSON"},
      {std::string("\"a\0\"", 4), "t:1:3: not valid JSON: NUL byte"},
      {std::string("[1]\n\0[", 6), "t:2:1: not valid JSON: NUL byte"},
  };
  for (const auto& test : kCases) {
    const auto parsed = ParseJson(test.text, "t");
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << test.text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(test.message));
  }
}

TEST(JsonTest, MessagesStayShortAndPrintable) {
  const auto parsed = ParseJson(absl::StrCat("\"", std::string(1 << 20, 'x'), "\xff"), "t");
  EXPECT_LT(parsed.status().message().size(), 300u);
  for (const char c : parsed.status().message()) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
}

TEST(JsonTest, DepthIsLimitedAtAnySize) {
  const auto nested = [](int depth) {
    return absl::StrCat(std::string(depth, '['), std::string(depth, ']'));
  };
  EXPECT_TRUE(ParseJson(nested(64), "t").ok());
  for (const int depth : {65, 1000, 5'000'000}) {
    const auto parsed = ParseJson(nested(depth), "t");
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("nested deeper than 64 levels"));
  }
  std::string objects;
  for (int i = 0; i < 100; ++i) objects += "{\"a\":";
  EXPECT_THAT(std::string(ParseJson(objects, "t").status().message()), HasSubstr("nested deeper"));
}

TEST(JsonTest, BytesAreLimited) {
  EXPECT_TRUE(ParseJson("[1]", "t", {.max_bytes = 3}).ok());
  EXPECT_THAT(std::string(ParseJson("[1] ", "t", {.max_bytes = 3}).status().message()),
              HasSubstr("4 bytes of JSON, limit 3"));
}

TEST(JsonTest, RepeatedKeys) {
  const char* kText = R"({"a": 1, "b": {"a": 2}, "a": 3})";
  const auto last_wins = ParseJson(kText, "t");
  ASSERT_TRUE(last_wins.ok());
  EXPECT_EQ((*last_wins)["a"], 3);
  const auto refused = ParseJson(kText, "t", {.unique_keys = true});
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("key \"a\" is given twice"));
  EXPECT_TRUE(ParseJson(R"({"a": 1, "b": {"a": 2}})", "t", {.unique_keys = true}).ok());
}

}  // namespace
}  // namespace moelight
