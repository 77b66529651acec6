#include "server/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

using ::testing::ElementsAre;

TEST(CommandLineTest, ReadsCommandAndFlagsInBothSpellings) {
  EXPECT_EQ(ParseCommandLine({})->command, "serve");
  EXPECT_EQ(ParseCommandLine({})->config, "config.yaml");
  EXPECT_EQ(ParseCommandLine({"plan"})->command, "plan");
  const absl::StatusOr<CommandLine> line =
      ParseCommandLine({"--config", "a.yaml", "--set", "x=1", "--set=y=2=3", "--check-config"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->config, "a.yaml");
  EXPECT_TRUE(line->check_config);
  EXPECT_THAT(line->overrides, ElementsAre("x=1", "y=2=3"));
  EXPECT_EQ(ParseCommandLine({"serve", "--config=b.yaml"})->config, "b.yaml");
  EXPECT_EQ(ParseCommandLine({"probe", "-o", "c.yaml"})->output, "c.yaml");
  EXPECT_EQ(ParseCommandLine({"probe"})->output, "");
}

TEST(CommandLineTest, RefusesWhatItDoesNotKnow) {
  const struct {
    std::vector<std::string> args;
    const char* error;
  } rows[] = {
      {{"serve", "--confg", "x"}, "unknown argument \"--confg\" of serve"},
      {{"serve", "x"}, "unknown argument \"x\" of serve"},
      {{"--config"}, "--config needs a value"},
      {{"plan", "--check-config"}, "unknown argument \"--check-config\" of plan"},
      {{"plan", "-o", "x"}, "unknown argument \"-o\" of plan"},
      {{"probe", "-o"}, "-o needs a value"},
      {{"--check-config=no"}, "unknown argument \"--check-config=no\" of serve"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(ParseCommandLine(row.args).status().message(), row.error);
  }
}

}  // namespace
}  // namespace moelight
