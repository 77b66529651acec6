// Goal: a file is written whole or not at all, and nothing is left beside it.
#include "server/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/temp_folder.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

int64_t NumFiles(const TempFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}

TEST(TextFileTest, WritesAndReplaces) {
  const TempFolder folder;
  const std::string file = folder.path() / "a.yaml";
  for (const char* text : {"first, and longer", "second"}) {
    ASSERT_EQ(WriteTextFile(file, text), absl::OkStatus());
    EXPECT_EQ(*ReadTextFile(file), text);
  }
  EXPECT_EQ(NumFiles(folder), 1);
  EXPECT_EQ(std::filesystem::status(file).permissions(), std::filesystem::perms(0644));
}

TEST(TextFileTest, WhatCannotBeWrittenLeavesNothing) {
  const TempFolder folder;
  std::filesystem::create_directories(folder.path() / "taken" / "by a file");
  const absl::Status taken = WriteTextFile(folder.path() / "taken", "x");
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("taken: cannot be written: "));
  EXPECT_EQ(NumFiles(folder), 1);
  EXPECT_THAT(std::string(WriteTextFile(folder.path() / "no" / "x", "x").message()),
              HasSubstr("x: cannot be created: No such file or directory"));
}

TEST(TextFileTest, WhatCannotBeReadIsTold) {
  const TempFolder folder;
  const auto error = [](const std::string& file) {
    return std::string(ReadTextFile(file).status().message());
  };
  EXPECT_THAT(error(folder.path()), HasSubstr(": is a folder, not a file"));
  EXPECT_THAT(error(folder.path() / "none"), HasSubstr(": cannot be opened"));
  EXPECT_THAT(error(folder.Write("large", std::string(kMaxTextFileBytes + 1, 'x'))),
              HasSubstr(": larger than 1MiB, limit 1MiB"));
  EXPECT_TRUE(ReadTextFile(folder.Write("full", std::string(kMaxTextFileBytes, 'x'))).ok());
}

}  // namespace
}  // namespace moelight
