// Goal: a file of any size and quality becomes chunks of good rows and numbered bad lines.
#include "client/batch_file.h"

#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Line(const std::string& custom_id, const std::string& prompt = "x") {
  return absl::StrFormat(
      R"({"custom_id":"%s","method":"POST","url":"/v1/completions","body":{"prompt":"%s"}})",
      custom_id, prompt);
}

struct Contents {
  std::vector<std::string> custom_ids;
  std::vector<std::pair<int64_t, std::string>> bad_lines;  // number and code
};

Contents ReadAll(const std::string& text, const BatchFileOptions& options = {}) {
  std::istringstream in(text);
  BatchFile file(in, options);
  Contents contents;
  while (true) {
    auto chunk = file.Next();
    EXPECT_TRUE(chunk.ok()) << chunk.status();
    if (!chunk.ok() || !chunk->has_value()) return contents;
    EXPECT_FALSE((*chunk)->rows.empty() && (*chunk)->bad_lines.empty());
    for (const ParsedLine& row : (*chunk)->rows) {
      contents.custom_ids.push_back(row.request.custom_id());
    }
    for (const BadLine& line : (*chunk)->bad_lines) {
      contents.bad_lines.emplace_back(line.line_number, line.error.code);
    }
  }
}

TEST(BatchFileTest, BlankLinesLineEndsAndAMissingLastOne) {
  const Contents contents =
      ReadAll(absl::StrCat("\n", Line("a"), "\r\n  \t\r\n\n", Line("b"), "\n\n", Line("c")));
  EXPECT_THAT(contents.custom_ids, ElementsAre("a", "b", "c"));
  EXPECT_TRUE(contents.bad_lines.empty());
  EXPECT_TRUE(ReadAll("").custom_ids.empty());
  EXPECT_TRUE(ReadAll("\n\n").custom_ids.empty());
}

TEST(BatchFileTest, BadLinesFailAloneWithTheirNumbers) {
  const Contents contents = ReadAll(absl::StrCat(Line("a"), "\nrubbish\n\n", Line("b"), "\n{}\n",
                                                 Line("a", "y"), "\n", Line("c")));
  EXPECT_THAT(contents.custom_ids, ElementsAre("a", "b", "c"));
  EXPECT_THAT(contents.bad_lines,
              ElementsAre(std::pair(2, "invalid_json"), std::pair(5, "invalid_request"),
                          std::pair(6, "duplicate_custom_id")));
}

TEST(BatchFileTest, TheIdOfARefusedLineIsFree) {
  const Contents contents =
      ReadAll(absl::StrCat(R"({"custom_id":"a","method":"GET"})", "\n", Line("a")));
  EXPECT_THAT(contents.custom_ids, ElementsAre("a"));
}

// Lines around the limit, and around the reader's block of 256 KiB.
TEST(BatchFileTest, LongLinesAreSkippedWhole) {
  const size_t overhead = Line("long", "").size();
  for (const size_t limit : {1000, 256 << 10, (256 << 10) + 1, 1 << 20}) {
    for (const int excess : {0, 1, 2, 300'000, 2'000'000}) {
      BatchFileOptions options;
      options.max_line_bytes = limit;
      options.max_row_bytes = 1 << 30;
      const Contents contents = ReadAll(
          absl::StrCat(Line("a"), "\n", Line("long", std::string(limit - overhead + excess, 'x')),
                       "\n", Line("b")),
          options);
      if (excess == 0) {
        EXPECT_THAT(contents.custom_ids, ElementsAre("a", "long", "b"));
      } else {
        EXPECT_THAT(contents.custom_ids, ElementsAre("a", "b"));
        EXPECT_THAT(contents.bad_lines, ElementsAre(std::pair(2, "line_too_long")));
      }
    }
  }
}

TEST(BatchFileTest, ALongLastLineWithoutItsEnd) {
  BatchFileOptions options;
  options.max_line_bytes = 1000;
  const Contents contents = ReadAll(absl::StrCat(Line("a"), "\n", std::string(5000, 'x')), options);
  EXPECT_THAT(contents.bad_lines, ElementsAre(std::pair(2, "line_too_long")));
}

TEST(BatchFileTest, RowsBeyondTheServersLimitAreRefusedByItsName) {
  std::istringstream in(Line("a", std::string(500, 'x')));
  BatchFileOptions options;
  options.max_row_bytes = 100;
  BatchFile file(in, options);
  const auto chunk = file.Next();
  ASSERT_TRUE(chunk.ok() && chunk->has_value());
  ASSERT_EQ((*chunk)->bad_lines.size(), 1);
  EXPECT_EQ((*chunk)->bad_lines[0].custom_id, "a");
  EXPECT_THAT((*chunk)->bad_lines[0].error.message,
              HasSubstr("limit 100 (server.limits.row_bytes)"));
}

TEST(BatchFileTest, ManyRowsKeepTheirOrder) {
  std::string text;
  constexpr int kRows = 5000;
  for (int i = 0; i < kRows; ++i) absl::StrAppend(&text, Line(absl::StrCat("row-", i)), "\n");
  const Contents contents = ReadAll(text);
  ASSERT_EQ(contents.custom_ids.size(), kRows);
  for (int i = 0; i < kRows; ++i) EXPECT_EQ(contents.custom_ids[i], absl::StrCat("row-", i));
}

TEST(BatchFileTest, CanBeLeftInTheMiddle) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&text, Line(absl::StrCat("row-", i)), "\n");
  std::istringstream in(text);
  BatchFile file(in, {});
  EXPECT_TRUE(file.Next().ok());
}

TEST(BatchFileTest, ABrokenStreamIsAnError) {
  struct Broken : std::streambuf {
    int_type underflow() override { throw std::ios_base::failure("broken"); }
    std::streamsize xsgetn(char*, std::streamsize) override {
      throw std::ios_base::failure("broken");
    }
  } buffer;
  std::istream in(&buffer);
  BatchFile file(in, {});
  EXPECT_EQ(file.Next().status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace moelight::client
