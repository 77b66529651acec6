// Goal: options are recognised in every spelling and refused by name.
#include "client/args.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<OptionSpec>& Specs() {
  static const auto* const specs = new std::vector<OptionSpec>{
      {"output", 'o', "FILE", "where to"}, {"wait", 'w', "", "wait"}, {"limit", '\0', "N", "most"}};
  return *specs;
}

TEST(ParseArgsTest, EverySpelling) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"a", "--output", "f", "b"},
                                             {"--output=f", "a", "b"},
                                             {"a", "b", "-o", "f"},
                                             {"-of", "a", "b"},
                                             {"--output", "x", "a", "-o", "f", "--", "b"}}) {
    const auto parsed = ParseArgs(Specs(), args);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->Get("output"), "f");
    EXPECT_THAT(parsed->positionals(), ElementsAre("a", "b"));
    EXPECT_FALSE(parsed->Has("wait"));
  }
}

TEST(ParseArgsTest, Dashes) {
  const auto parsed =
      ParseArgs(Specs(), {"-", "-w", "--limit", "-1", "--output=", "--", "-o", "--x"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->positionals(), ElementsAre("-", "-o", "--x"));
  EXPECT_TRUE(parsed->Has("wait"));
  EXPECT_EQ(parsed->Get("limit"), "-1");
  EXPECT_EQ(parsed->Get("output"), "");
}

TEST(ParseArgsTest, RepeatedOptionsKeepAllValues) {
  const auto parsed = ParseArgs(Specs(), {"-oa", "-ob"});
  EXPECT_THAT(parsed->GetAll("output"), ElementsAre("a", "b"));
  EXPECT_EQ(parsed->Get("output"), "b");
  EXPECT_TRUE(parsed->GetAll("limit").empty());
}

TEST(ParseArgsTest, RefusesByName) {
  struct Case {
    std::vector<std::string> args;
    std::string message;
  };
  for (const Case& c : std::vector<Case>{{{"--outputs", "f"}, "unknown option --outputs"},
                                         {{"-x"}, "unknown option -x"},
                                         {{"--output"}, "option --output needs a value: FILE"},
                                         {{"-o"}, "option -o needs a value: FILE"},
                                         {{"--wait=1"}, "option --wait takes no value"},
                                         {{"-wx"}, "option --wait takes no value"}}) {
    const auto parsed = ParseArgs(Specs(), c.args);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(c.message));
  }
}

TEST(ParsedArgsTest, Numbers) {
  const auto parsed = ParseArgs(Specs(), {"--limit", "12", "--output", "0.5x"});
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->GetInt("limit", 0, 1, 12).value(), 12);
  EXPECT_EQ(parsed->GetInt("wait", 7, 1, 2).value(), 7);
  EXPECT_EQ(parsed->GetDouble("limit", 0, 0, 100).value(), 12);
  EXPECT_THAT(std::string(parsed->GetInt("limit", 0, 1, 11).status().message()),
              HasSubstr("--limit must be an integer from 1 to 11, is \"12\""));
  EXPECT_FALSE(parsed->GetInt("output", 0, 0, 9).ok());
  EXPECT_FALSE(parsed->GetDouble("output", 0, 0, 9).ok());
}

TEST(ParsedArgsTest, Seconds) {
  const struct {
    std::string text;
    int64_t seconds;  // 0: refused
  } cases[] = {{"90", 90},      {"90s", 90},
               {"15m", 900},    {"12h", 43'200},
               {"7d", 604'800}, {"10d", 864'000},
               {"11d", 0},      {"0", 0},
               {"-1s", 0},      {"", 0},
               {"d", 0},        {"1w", 0},
               {"1.5h", 0},     {"99999999999999999999", 0}};
  for (const auto& row : cases) {
    const auto parsed = ParseArgs(Specs(), {"--limit=" + row.text});
    ASSERT_TRUE(parsed.ok());
    const absl::StatusOr<int64_t> seconds = parsed->GetSeconds("limit", 864'000);
    EXPECT_EQ(seconds.value_or(0), row.seconds) << row.text;
    if (seconds.ok()) continue;
    EXPECT_THAT(std::string(seconds.status().message()),
                HasSubstr("--limit must be a duration such as 90s, 15m, 12h or 7d, at most 10d"));
  }
  EXPECT_EQ(ParseArgs(Specs(), {})->GetSeconds("limit", 10).value(), 0);
}

TEST(DescribeOptionsTest, AlignsHelp) {
  EXPECT_THAT(DescribeOptions(Specs()),
              HasSubstr("  -o, --output FILE           where to\n  -w, --wait  "));
}

}  // namespace
}  // namespace moelight::client
