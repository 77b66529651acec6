// Goal: each part of a model folder is judged by itself, and what is missing, cut short or unknown
// is named.
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

// A copy of the demo model that may be damaged.
class ModelFilesTest : public ::testing::Test {
 protected:
  ModelFilesTest() {
    std::string pattern = (fs::temp_directory_path() / "moelight-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    for (const auto& entry : fs::directory_iterator(MOELIGHT_SOURCE_DIR "/deploy/demo/model")) {
      fs::copy_file(entry.path(), folder_ / entry.path().filename());
    }
    options_.model = folder_.string();
    options_.device = "reference";
  }
  ~ModelFilesTest() override { fs::remove_all(folder_); }

  void Write(const char* name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }

  fs::path folder_;
  EngineOptions options_;
};

TEST_F(ModelFilesTest, AWholeFolderIsFineInEveryPart) {
  const ModelFiles files = Engine::InspectModel(options_);
  EXPECT_TRUE(files.config.ok()) << files.config;
  EXPECT_EQ(files.model.architecture, "MixtralForCausalLM");
  EXPECT_TRUE(files.model.has_chat_template);
  EXPECT_TRUE(files.weights.ok()) << files.weights;
  EXPECT_GT(files.num_tensors, 0);
  EXPECT_GT(files.weight_bytes, 0);
  EXPECT_LT(files.weight_bytes, fs::file_size(folder_ / "model.safetensors"));
  EXPECT_TRUE(files.tokenizer.ok()) << files.tokenizer;
  EXPECT_TRUE(files.chat_template.ok()) << files.chat_template;
}

TEST_F(ModelFilesTest, AFileShorterThanItsHeaderSaysIsNamed) {
  fs::resize_file(folder_ / "model.safetensors", fs::file_size(folder_ / "model.safetensors") - 1);
  const ModelFiles files = Engine::InspectModel(options_);
  EXPECT_FALSE(files.weights.ok());
  EXPECT_THAT(std::string(files.weights.message()), HasSubstr("model.safetensors"));
  EXPECT_TRUE(files.config.ok()) << "the other parts are as good as before";
  EXPECT_TRUE(files.tokenizer.ok());
}

TEST_F(ModelFilesTest, MissingPartsAreNotFound) {
  for (const char* name : {"model.safetensors", "tokenizer.json", "tokenizer_config.json"}) {
    fs::remove(folder_ / name);
  }
  const ModelFiles files = Engine::InspectModel(options_);
  EXPECT_TRUE(absl::IsNotFound(files.weights)) << files.weights;
  EXPECT_TRUE(absl::IsNotFound(files.tokenizer)) << files.tokenizer;
  EXPECT_TRUE(absl::IsNotFound(files.chat_template)) << files.chat_template;
  EXPECT_TRUE(files.config.ok());
  EXPECT_FALSE(files.model.has_chat_template);
}

TEST_F(ModelFilesTest, BrokenPartsAreTold) {
  Write("tokenizer.json", "{");
  Write("config.json", R"({"architectures": ["OtherForCausalLM"]})");
  const ModelFiles files = Engine::InspectModel(options_);
  EXPECT_FALSE(files.tokenizer.ok());
  EXPECT_FALSE(absl::IsNotFound(files.tokenizer));
  EXPECT_THAT(std::string(files.config.message()), HasSubstr("OtherForCausalLM"));
}

TEST_F(ModelFilesTest, DevicesAreDescribedOrRefused) {
  const absl::StatusOr<DeviceInfo> device = Engine::DescribeDevice(options_);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_THAT(device->description, HasSubstr("reference"));
  EXPECT_FALSE(device->has_own_memory);
  options_.device = "abacus";
  EXPECT_TRUE(absl::IsInvalidArgument(Engine::DescribeDevice(options_).status()));
}

}  // namespace
}  // namespace moelight
