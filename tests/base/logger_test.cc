// Goal: log lines are one line each, and JSON lines always parse, whatever bytes a field holds.
#include "engine/base/logger.h"

#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moelight {
namespace {

std::string Capture(LogFormat format, LogLevel level, const std::function<void(Logger&)>& write) {
  testing::internal::CaptureStderr();
  {
    Logger logger(level, format);
    write(logger);
  }
  return testing::internal::GetCapturedStderr();
}

TEST(LoggerTest, JsonKeepsTypesAndEscapes) {
  const std::string line = Capture(LogFormat::kJson, LogLevel::kInfo, [](Logger& logger) {
    logger.Info("job_done", {{"job", "a\"b\n\xff"}, {"rows", 12}, {"ok", true}, {"share", 0.5}});
  });
  ASSERT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const nlohmann::json parsed = nlohmann::json::parse(line);
  EXPECT_EQ(parsed["event"], "job_done");
  EXPECT_EQ(parsed["level"], "info");
  EXPECT_EQ(parsed["rows"], 12);
  EXPECT_EQ(parsed["ok"], true);
  EXPECT_EQ(parsed["share"], 0.5);
  EXPECT_EQ(parsed["job"], "a\"b\n\xEF\xBF\xBD");
}

TEST(LoggerTest, TextQuotesWhatNeedsIt) {
  const std::string line = Capture(LogFormat::kText, LogLevel::kInfo, [](Logger& logger) {
    logger.Warning("slow", {{"why", "disk full"}, {"ms", 3}});
  });
  EXPECT_NE(line.find("slow why=\"disk full\" ms=3"), std::string::npos) << line;
}

TEST(LoggerTest, LevelHidesLowerOnes) {
  const std::string lines = Capture(LogFormat::kText, LogLevel::kWarning, [](Logger& logger) {
    logger.Debug("a");
    logger.Info("b");
    logger.Error("c");
  });
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1);
}

TEST(LoggerTest, UnknownNamesAreRefusedWithTheChoices) {
  EXPECT_EQ(ParseLogLevel("loud").status().message(),
            "\"loud\" is not a log level: debug, info, warning, error, off");
  EXPECT_EQ(ParseLogFormat("xml").status().message(), "\"xml\" is not a log format: text, json");
}

}  // namespace
}  // namespace moelight
