// Goal: every rule of the safetensors format is checked; a broken file gives an error that names
// file, tensor and rule, never a crash.
#include "engine/model/safetensors.h"

#include <filesystem>
#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/model/model_files.h"

namespace moelight {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<TensorMap> Read(const TempFolder& folder, const std::string& content) {
  folder.Write("x.safetensors", content);
  const absl::StatusOr<File> file = File::Open(folder.Path("x.safetensors"));
  if (!file.ok()) return file.status();
  return ReadSafetensorsHeader(*file);
}

TEST(SafetensorsTest, ReadsShapesDtypesAndPlaces) {
  TempFolder folder;
  for (const int padding : {0, 1, 7}) {
    const std::string content = SafetensorsFile({{"b", "BF16", {2, 3}, std::string(12, 'b')},
                                                 {"scalar", "F32", {}, std::string(4, 's')},
                                                 {"empty", "F16", {0, 5}, ""},
                                                 {"a", "F8_E4M3", {3}, "aaa"}},
                                                padding);
    const auto tensors = Read(folder, content);
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    ASSERT_EQ(tensors->size(), 4u);
    EXPECT_EQ(tensors->at("b").ShapeString(), "[2, 3] BF16");
    EXPECT_THAT(tensors->at("scalar").shape, IsEmpty());
    EXPECT_THAT(tensors->at("empty").shape, ElementsAre(0, 5));
    for (const auto& [name, info] : *tensors) {
      EXPECT_EQ(content.substr(info.begin, info.bytes), std::string(info.bytes, name[0]));
    }
  }
}

TEST(SafetensorsTest, EmptyObjectIsAFileWithoutTensors) {
  TempFolder folder;
  const auto tensors = Read(folder, SafetensorsFile("{}", ""));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_THAT(*tensors, IsEmpty());
}

TEST(SafetensorsTest, RefusesBrokenLengths) {
  TempFolder folder;
  const struct {
    std::string content;
    const char* message;
  } kCases[] = {
      {"", "0 bytes, too short"},
      {"1234567", "7 bytes, too short"},
      {std::string(8, '\0'), "header must begin with '{'"},
      {SafetensorsFile("{}", "", 3), "header length 3 passes the end of the file, which has 2"},
      {SafetensorsFile("{}", "", 100'000'000), "header length 100000000 passes the end"},
      {SafetensorsFile("{}", "", 100'000'001), "header length 100000001, limit 100000000"},
      {SafetensorsFile("{}", "", uint64_t{1} << 63), "header length 9223372036854775808, limit"},
      {SafetensorsFile("{}", "", ~uint64_t{0}), "header length 18446744073709551615, limit"},
  };
  for (const auto& test : kCases) {
    const auto tensors = Read(folder, test.content);
    EXPECT_FALSE(tensors.ok());
    EXPECT_THAT(std::string(tensors.status().message()), HasSubstr(test.message));
    EXPECT_THAT(std::string(tensors.status().message()), HasSubstr(folder.Path("x.safetensors")));
  }
}

TEST(SafetensorsTest, RefusesBrokenHeaders) {
  const std::string kOk = R"("dtype": "F32", "shape": [2], "data_offsets": [0, 8])";
  const struct {
    std::string header;
    const char* message;
  } kCases[] = {
      {" {}", "header must begin with '{'"},
      {"[]", "header must begin with '{'"},
      {"{", "not valid JSON"},
      {"{\"\xff\": 1}", "not valid JSON"},
      {"{} x", "not valid JSON"},
      {std::string("{}\0", 3), "not valid JSON"},
      {R"({"a": {"b": {"c": {"d": 1}}}})", "nested deeper than 3"},
      {absl::StrCat(R"({"a": )", std::string(1'000'000, '[')), "nested deeper than 3"},
      {absl::StrCat(R"({"a": {)", kOk, R"(}, "a": {)", kOk, "}}"), "key \"a\" is given twice"},
      {R"({"__metadata__": []})", "__metadata__ must map strings to strings"},
      {R"({"__metadata__": {"format": 1}})", "__metadata__ must map strings to strings"},
      {R"({"a": 1})", "tensor \"a\": must be a JSON object"},
      {R"({"a": {"shape": [2], "data_offsets": [0, 8]}})", "tensor \"a\": dtype must be a string"},
      {R"({"a": {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]}})", "dtype \"F31\" is not"},
      {R"({"a": {"dtype": "F32", "data_offsets": [0, 8]}})", "shape must be a list"},
      {R"({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}})", "shape must be a list"},
      {R"({"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}})",
       "shape must be a list"},
      {R"({"a": {"dtype": "F32", "shape": [9223372036854775808], "data_offsets": [0, 8]}})",
       "shape must be a list"},
      {R"({"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]}})",
       "overflows 64 bits"},
      {R"({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 8]}})", "whole number of bytes"},
      {R"({"a": {"dtype": "F32", "shape": [2]}})", "data_offsets must be two integers"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}})", "must be two integers"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}})", "two integers"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-1, 8]}})", "two integers"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": ["0", 8]}})", "two integers"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}})", "end before begin"},
      {R"({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}})",
       "tensor \"a\": data_offsets [0, 12) pass the end of the data, 8 bytes"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9223372036854775807]}})",
       "pass the end of the data"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}})",
       "are 8 bytes, but [1] F32 takes 4"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
           "b": {"dtype": "F16", "shape": [3], "data_offsets": [2, 8]}})",
       "tensor \"b\": overlaps tensor \"a\""},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
           "b": {"dtype": "F16", "shape": [1], "data_offsets": [6, 8]}})",
       "tensor \"b\": follows a hole of 2 bytes"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
       "tensor \"a\": follows a hole of 4 bytes"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
       "the last 4 bytes belong to no tensor"},
      {"{}", "the last 8 bytes belong to no tensor"},
  };
  TempFolder folder;
  for (const auto& test : kCases) {
    const auto tensors = Read(folder, SafetensorsFile(test.header, "12345678"));
    EXPECT_EQ(tensors.status().code(), absl::StatusCode::kInvalidArgument) << test.header;
    EXPECT_THAT(std::string(tensors.status().message()), HasSubstr(test.message));
    EXPECT_THAT(std::string(tensors.status().message()), HasSubstr(folder.Path("x.safetensors")));
  }
}

TEST(SafetensorsTest, EveryTruncationOfAGoodFileIsRefused) {
  TempFolder folder;
  const std::string content =
      SafetensorsFile({{"a", "BF16", {4}, "aaaaaaaa"}, {"b", "F32", {2, 1}, "bbbbbbbb"}});
  ASSERT_TRUE(Read(folder, content).ok());
  for (size_t size = 0; size < content.size(); ++size) {
    EXPECT_FALSE(Read(folder, content.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(Read(folder, content + "x").ok());
}

TEST(SafetensorsTest, EveryChangedHeaderByteIsReadOrRefused) {
  TempFolder folder;
  const std::string content = SafetensorsFile({{"a", "BF16", {4}, "aaaaaaaa"}});
  for (size_t i = 0; i + 8 < content.size(); ++i) {
    for (const char c : {'\0', '0', '9', '"', '{', ']', '\x80', '\xff'}) {
      std::string changed = content;
      changed[i] = c;
      (void)Read(folder, changed);  // under the sanitizers: no crash, no overread
    }
  }
}

TEST(FileTest, RefusesWhatIsNoRegularFile) {
  TempFolder folder;
  std::filesystem::create_directory(folder.Path("dir"));
  EXPECT_THAT(std::string(File::Open(folder.Path("dir")).status().message()),
              HasSubstr("is not a regular file"));
  ASSERT_EQ(mkfifo(folder.Path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(std::string(File::Open(folder.Path("pipe")).status().message()),
              HasSubstr("is not a regular file"));
  EXPECT_EQ(File::Open(folder.Path("none")).status().code(), absl::StatusCode::kNotFound);
}

TEST(FileTest, AFileThatShrinksGivesAnErrorAndNoSignal) {
  TempFolder folder;
  folder.Write("f", std::string(1 << 16, 'x'));
  const auto file = File::Open(folder.Path("f"));
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(folder.Path("f"), 100);
  std::vector<std::byte> out(200);
  const absl::Status status = file->ReadAt(0, absl::MakeSpan(out));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("ends at byte 100"));
}

}  // namespace
}  // namespace moelight
