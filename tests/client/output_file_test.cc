// Goal: a file is either whole under its name or not there.
#include "client/output_file.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight::client {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string Contents(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class OutputFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "output_file_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_;
  std::ostringstream standard_output_;
};

TEST_F(OutputFileTest, AppearsOnCommit) {
  const fs::path path = folder_ / "out";
  auto file = OutputFile::Open(path, standard_output_).value();
  ASSERT_TRUE(file->WriteLine("a").ok());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_FALSE(fs::exists(path));
  EXPECT_TRUE(fs::exists(folder_ / "out.partial"));
  ASSERT_TRUE(file->WriteLine(std::string(3 << 20, 'b')).ok());
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_EQ(Contents(path), absl::StrCat("a\n", std::string(3 << 20, 'b'), "\n"));
  EXPECT_FALSE(fs::exists(folder_ / "out.partial"));
}

TEST_F(OutputFileTest, WithoutCommitTheOldFileStays) {
  const fs::path path = folder_ / "out";
  std::ofstream(path) << "old";
  {
    auto file = OutputFile::Open(path, standard_output_).value();
    ASSERT_TRUE(file->WriteLine("new").ok());
  }
  EXPECT_EQ(Contents(path), "old");
  EXPECT_FALSE(fs::exists(folder_ / "out.partial"));
}

TEST_F(OutputFileTest, AnEmptyFileIsWholeToo) {
  ASSERT_TRUE(OutputFile::Open(folder_ / "out", standard_output_).value()->Commit().ok());
  EXPECT_TRUE(fs::exists(folder_ / "out"));
}

TEST_F(OutputFileTest, WritesThroughASymbolicLink) {
  std::ofstream(folder_ / "target") << "old";
  fs::create_symlink(folder_ / "target", folder_ / "link");
  auto file = OutputFile::Open(folder_ / "link", standard_output_).value();
  ASSERT_TRUE(file->WriteLine("new").ok());
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(Contents(folder_ / "target"), "new\n");
}

TEST_F(OutputFileTest, ADashIsTheStream) {
  auto file = OutputFile::Open("-", standard_output_).value();
  ASSERT_TRUE(file->WriteLine("a").ok());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(standard_output_.str(), "a\n");
  ASSERT_TRUE(file->WriteLine("b").ok());
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_EQ(standard_output_.str(), "a\nb\n");
}

TEST_F(OutputFileTest, DevicesAreWrittenDirectly) {
  auto file = OutputFile::Open("/dev/null", standard_output_).value();
  ASSERT_TRUE(file->WriteLine("a").ok());
  EXPECT_TRUE(file->Commit().ok());
}

TEST_F(OutputFileTest, NamesThePathAndTheReason) {
  EXPECT_THAT(std::string(OutputFile::Open(folder_, standard_output_).status().message()),
              HasSubstr("it is a folder"));
  EXPECT_THAT(
      std::string(OutputFile::Open(folder_ / "no" / "out", standard_output_).status().message()),
      HasSubstr("out.partial: No such file or directory"));
  auto full = OutputFile::Open("/dev/full", standard_output_).value();
  ASSERT_TRUE(full->WriteLine("a").ok());
  EXPECT_THAT(std::string(full->Commit().message()), HasSubstr("cannot write /dev/full: No space"));
}

}  // namespace
}  // namespace moelight::client
