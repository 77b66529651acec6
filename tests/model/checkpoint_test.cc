// Goal: a folder of one file and a folder of many give the same tensors; an index and shards that
// disagree are refused with file, tensor and rule.
#include "engine/model/checkpoint.h"

#include <filesystem>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/model_files.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

constexpr char kIndex[] = "model.safetensors.index.json";

std::string ReadTensor(const Checkpoint& checkpoint, const std::string& name) {
  const CheckpointTensor* tensor = checkpoint.Find(name);
  if (tensor == nullptr) return "absent";
  std::string data(tensor->info.bytes, '\0');
  const absl::Status status =
      checkpoint.Read(*tensor, 0, {reinterpret_cast<std::byte*>(data.data()), data.size()});
  return status.ok() ? data : status.ToString();
}

// Two shards holding a and b, c.
void WriteShards(const TempFolder& folder) {
  folder.Write("s1.safetensors", SafetensorsFile({{"a", "BF16", {1}, "aa"}}, 3));
  folder.Write("s2.safetensors",
               SafetensorsFile({{"b", "BF16", {1}, "bb"}, {"c", "F32", {1}, "cccc"}}));
}

TEST(CheckpointTest, SingleFile) {
  TempFolder folder;
  folder.Write("model.safetensors", SafetensorsFile({{"a", "BF16", {1}, "aa"}}));
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(ReadTensor(**checkpoint, "a"), "aa");
  EXPECT_EQ(ReadTensor(**checkpoint, "b"), "absent");
}

TEST(CheckpointTest, Shards) {
  TempFolder folder;
  WriteShards(folder);
  folder.Write(kIndex, R"({"metadata": {"total_size": 8}, "weight_map":
      {"a": "s1.safetensors", "b": "s2.safetensors", "c": "s2.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(ReadTensor(**checkpoint, "a"), "aa");
  EXPECT_EQ(ReadTensor(**checkpoint, "b"), "bb");
  EXPECT_EQ(ReadTensor(**checkpoint, "c"), "cccc");
  EXPECT_EQ((*checkpoint)->path(*(*checkpoint)->Find("c")), folder.Path("s2.safetensors"));
}

TEST(CheckpointTest, RefusesBrokenIndexes) {
  const struct {
    const char* index;
    absl::StatusCode code;
    const char* message;
  } kCases[] = {
      {"", absl::StatusCode::kInvalidArgument, "not valid JSON"},
      {"[]", absl::StatusCode::kInvalidArgument, "weight_map must be an object"},
      {"{}", absl::StatusCode::kInvalidArgument, "weight_map must be an object"},
      {R"({"weight_map": {}})", absl::StatusCode::kInvalidArgument, "weight_map must be an object"},
      {R"({"weight_map": {"a": 1}})", absl::StatusCode::kInvalidArgument,
       "tensor \"a\" the file 1"},
      {R"({"weight_map": {"a": "../s1.safetensors"}})", absl::StatusCode::kInvalidArgument,
       "must be the name of a .safetensors file in the same folder"},
      {R"({"weight_map": {"a": "/etc/x.safetensors"}})", absl::StatusCode::kInvalidArgument,
       "in the same folder"},
      {R"({"weight_map": {"a": "x\u0000/s1.safetensors"}})", absl::StatusCode::kInvalidArgument,
       "in the same folder"},
      {R"({"weight_map": {"a": "..safetensors"}})", absl::StatusCode::kInvalidArgument,
       "in the same folder"},
      {R"({"weight_map": {"a": "s1.bin"}})", absl::StatusCode::kInvalidArgument,
       "in the same folder"},
      {R"({"weight_map": {"a": "s1.safetensors", "a": "s2.safetensors"}})",
       absl::StatusCode::kInvalidArgument, "key \"a\" is given twice"},
      {R"({"weight_map": {"a": "s1.safetensors", "b": "s3.safetensors"}})",
       absl::StatusCode::kNotFound, "s3.safetensors"},
      {R"({"weight_map": {"a": "s1.safetensors", "b": "s1.safetensors"}})",
       absl::StatusCode::kInvalidArgument,
       "s1.safetensors: tensor \"b\": the index places it here, but the file does not hold it"},
      {R"({"weight_map": {"a": "s1.safetensors", "b": "s2.safetensors"}})",
       absl::StatusCode::kInvalidArgument, "tensor \"c\": the index does not list it"},
      {R"({"weight_map":
           {"a": "s1.safetensors", "b": "s1.safetensors", "c": "s2.safetensors"}})",
       absl::StatusCode::kInvalidArgument, "tensor \"b\": the index places it in s1.safetensors"},
  };
  for (const auto& test : kCases) {
    TempFolder folder;
    WriteShards(folder);
    folder.Write(kIndex, test.index);
    const auto checkpoint = Checkpoint::Open(folder.path());
    EXPECT_EQ(checkpoint.status().code(), test.code) << test.index << checkpoint.status();
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(test.message));
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(folder.path()));
  }
}

TEST(CheckpointTest, BrokenShardIsNamed) {
  TempFolder folder;
  WriteShards(folder);
  std::filesystem::resize_file(folder.Path("s2.safetensors"), 20);
  folder.Write(kIndex, R"({"weight_map":
      {"a": "s1.safetensors", "b": "s2.safetensors", "c": "s2.safetensors"}})");
  EXPECT_THAT(std::string(Checkpoint::Open(folder.path()).status().message()),
              HasSubstr("s2.safetensors: header length"));
}

TEST(CheckpointTest, FolderWithoutACheckpoint) {
  TempFolder folder;
  folder.Write("pytorch_model.bin", "x");
  const auto checkpoint = Checkpoint::Open(folder.path());
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(checkpoint.status().message()),
              HasSubstr("has neither model.safetensors nor model.safetensors.index.json"));
  EXPECT_EQ(Checkpoint::Open("/nonexistent").status().code(), absl::StatusCode::kNotFound);
}

TEST(CheckpointTest, AFolderInPlaceOfTheFile) {
  TempFolder folder;
  std::filesystem::create_directory(folder.Path("model.safetensors"));
  EXPECT_EQ(Checkpoint::Open(folder.path()).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace moelight
