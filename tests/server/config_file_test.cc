// Goal: config.yaml at the root is the documentation of every key: path, default and range.
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gtest/gtest.h>

#include "server/config_keys.h"

namespace moelight {
namespace {

const char kFile[] = MOELIGHT_SOURCE_DIR "/config.yaml";

// Comment lines in front of each key, by path. Sections are indented by two spaces a level.
std::map<std::string, std::string> ReadComments() {
  std::ifstream stream(kFile);
  std::map<std::string, std::string> comments;
  std::vector<std::string> sections;
  std::string line, comment;
  while (std::getline(stream, line)) {
    const std::string text(absl::StripAsciiWhitespace(line));
    if (absl::StartsWith(text, "#")) {
      absl::StrAppend(&comment, text.substr(1));
      continue;
    }
    const size_t colon = text.find(':');
    if (text.empty() || colon == std::string::npos) {
      comment.clear();
      continue;
    }
    sections.resize(line.find_first_not_of(' ') / 2);
    sections.push_back(text.substr(0, colon));
    std::string path;
    for (const std::string& section : sections) {
      absl::StrAppend(&path, path.empty() ? "" : ".", section);
    }
    comments[path] = comment;
    comment.clear();
  }
  return comments;
}

TEST(ConfigFileTest, IsAccepted) {
  const absl::StatusOr<Config> config = LoadConfig({kFile, {}, {}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->engine.model, absl::StrCat(MOELIGHT_SOURCE_DIR, "/deploy/demo/model"));
}

TEST(ConfigFileTest, StatesEveryKeyWithItsDefault) {
  const absl::StatusOr<Config> config = LoadConfig({kFile, {}, {}});
  ASSERT_TRUE(config.ok()) << config.status();
  const std::map<std::string, std::string> comments = ReadComments();
  const Config defaults;
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_TRUE(comments.contains(std::string(key.path))) << key.path << " is not in config.yaml";
    if (key.kind == ConfigKind::kPath) continue;  // the file's are resolved
    EXPECT_EQ(FormatConfigValue(key, *config), FormatConfigValue(key, defaults)) << key.path;
  }
}

TEST(ConfigFileTest, StatesTheRangeOfEveryKey) {
  const std::map<std::string, std::string> comments = ReadComments();
  for (const ConfigKey& key : ConfigKeys()) {
    const auto comment = comments.find(std::string(key.path));
    ASSERT_NE(comment, comments.end()) << key.path;
    EXPECT_FALSE(comment->second.empty()) << key.path;
    if (key.kind == ConfigKind::kString || key.kind == ConfigKind::kPath) continue;
    if (key.kind == ConfigKind::kChoice) {
      for (absl::string_view choice : key.choices) {
        EXPECT_TRUE(absl::StrContains(comment->second, choice)) << key.path << " lacks " << choice;
      }
    } else {
      EXPECT_TRUE(absl::StrContains(comment->second, DescribeRange(key)))
          << key.path << " does not say " << DescribeRange(key);
    }
  }
}

TEST(ConfigKeysTest, DefaultsAreValidAndRangesFitTheirFields) {
  for (const ConfigKey& key : ConfigKeys()) {
    const Config defaults;
    Config config;
    const std::string text = FormatConfigValue(key, defaults);
    EXPECT_TRUE(SetConfigValue(key, text, config).ok()) << key.path << " " << text;
    EXPECT_FALSE(key.doc.empty()) << key.path;
    if (key.kind != ConfigKind::kInteger) continue;
    EXPECT_TRUE(SetConfigValue(key, absl::StrCat(key.max), config).ok()) << key.path;
    EXPECT_FALSE(SetConfigValue(key, absl::StrCat(key.max + 1), config).ok()) << key.path;
    EXPECT_FALSE(SetConfigValue(key, absl::StrCat(key.min - 1), config).ok()) << key.path;
  }
}

}  // namespace
}  // namespace moelight
