// Goal: RopeInvFreq follows each type's published formula, and the settings are read in every
// spelling.
#include "engine/model/rope.h"

#include <cmath>
#include <numbers>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moelight {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<RopeConfig> Parse(const std::string& text) {
  const nlohmann::json object = nlohmann::json::parse(text);
  return ParseRopeConfig(ConfigReader(object, "config.json"));
}

TEST(RopeTest, EverySpellingOfTheDefault) {
  for (const char* text :
       {R"({"max_position_embeddings": 64, "rope_theta": 1e6})",
        R"({"max_position_embeddings": 64, "rope_theta": 1000000, "rope_scaling": null})",
        R"({"max_position_embeddings": 64, "rope_parameters": {"rope_theta": 1e6}})",
        R"({"max_position_embeddings": 64, "rope_theta": 1e6, "rope_parameters": {}})",
        R"({"max_position_embeddings": 64,
            "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}})"}) {
    const auto rope = Parse(text);
    ASSERT_TRUE(rope.ok()) << rope.status();
    EXPECT_EQ(rope->rope_theta, 1e6);
    EXPECT_EQ(rope->rope_type, "default");
    EXPECT_EQ(RopeMaxPositions(*rope, 64), 64);
    const std::vector<float> inv_freq = RopeInvFreq(*rope, 6);
    ASSERT_EQ(inv_freq.size(), 3u);
    for (int i = 0; i < 3; ++i) EXPECT_NEAR(inv_freq[i], std::pow(1e6, -i / 3.0), 1e-7);
  }
}

TEST(RopeTest, LinearDividesAllAngles) {
  const auto rope = Parse(R"({"max_position_embeddings": 100, "rope_theta": 10000,
                              "rope_scaling": {"type": "linear", "factor": 4.0}})");
  ASSERT_TRUE(rope.ok()) << rope.status();
  EXPECT_EQ(RopeMaxPositions(*rope, 100), 400);
  const std::vector<float> inv_freq = RopeInvFreq(*rope, 8);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(inv_freq[i], std::pow(1e4, -i / 4.0) / 4, 1e-7);
}

TEST(RopeTest, Llama3KeepsShortWavesAndInterpolatesLongOnes) {
  const auto rope = Parse(R"({"max_position_embeddings": 131072, "rope_theta": 500000,
      "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                       "high_freq_factor": 4, "original_max_position_embeddings": 8192}})");
  ASSERT_TRUE(rope.ok()) << rope.status();
  EXPECT_EQ(RopeMaxPositions(*rope, 131072), 131072);
  const std::vector<float> inv_freq = RopeInvFreq(*rope, 128);
  int num_mixed = 0;
  for (int i = 0; i < 64; ++i) {
    const double plain = std::pow(5e5, -i / 64.0);
    const double wave = 2 * std::numbers::pi / plain;
    double expected = plain;
    if (wave > 8192.0) {
      expected = plain / 8;
    } else if (wave > 8192.0 / 4) {
      const double smooth = (8192.0 / wave - 1) / (4 - 1);
      expected = (1 - smooth) * plain / 8 + smooth * plain;
      ++num_mixed;
    }
    EXPECT_NEAR(inv_freq[i], expected, 1e-6 * expected) << i;
  }
  EXPECT_GT(num_mixed, 0);
}

TEST(RopeTest, YarnOfQwen3) {
  const auto rope = Parse(R"({"max_position_embeddings": 40960, "rope_theta": 1000000,
      "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                       "original_max_position_embeddings": 32768}})");
  ASSERT_TRUE(rope.ok()) << rope.status();
  EXPECT_EQ(RopeMaxPositions(*rope, 40960), 131072);
  EXPECT_NEAR(rope->attention_factor, 1.1386294, 1e-6);
  const std::vector<float> inv_freq = RopeInvFreq(*rope, 128);
  // The ramp lies between the pairs that turn 32 times and once over 32768 positions:
  // 64 ln(32768 / (2 pi 32)) / ln(1e6) = 23.6, 64 ln(32768 / (2 pi)) / ln(1e6) = 39.6.
  for (int i = 0; i < 64; ++i) {
    const double plain = std::pow(1e6, -i / 64.0);
    const double ramp = std::min(1.0, std::max(0.0, (i - 23) / 17.0));
    const double expected = plain * (1 - ramp) + plain / 4 * ramp;
    EXPECT_NEAR(inv_freq[i], expected, 1e-6 * expected) << i;
  }
}

TEST(RopeTest, YarnAttentionFactorIsRead) {
  const auto given = Parse(R"({"max_position_embeddings": 64, "rope_theta": 1e4, "rope_scaling":
      {"rope_type": "yarn", "factor": 4, "attention_factor": 1.5}})");
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(given->attention_factor, 1.5);
  EXPECT_EQ(given->original_max_position_embeddings, 64);
  const auto ratio = Parse(R"({"max_position_embeddings": 64, "rope_theta": 1e4, "rope_scaling":
      {"rope_type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0}})");
  ASSERT_TRUE(ratio.ok()) << ratio.status();
  EXPECT_EQ(ratio->attention_factor, 1.0);
}

TEST(RopeTest, RefusesByName) {
  const struct {
    const char* text;
    const char* message;
  } kCases[] = {
      {R"({"max_position_embeddings": 64})", "rope_theta is missing"},
      {R"({"max_position_embeddings": 64, "rope_theta": 0})", "rope_theta is 0"},
      {R"({"max_position_embeddings": 64, "rope_theta": "1e6"})", "rope_theta is \"1e6\""},
      {R"({"max_position_embeddings": 64, "rope_theta": 1e4, "rope_scaling": 4})",
       "rope_scaling is 4, must be an object"},
      {R"({"max_position_embeddings": 64, "rope_theta": 1e4, "rope_scaling": {"type": "su"}})",
       "\"su\" is not supported; supported: default, linear, llama3, yarn"},
      {R"({"max_position_embeddings": 64, "rope_theta": 1e4, "rope_scaling": {"type": "linear"}})",
       "rope_scaling: factor is missing"},
      {R"({"max_position_embeddings": 64, "rope_theta": 1e4,
           "rope_scaling": {"type": "linear", "factor": 0.5}})",
       "factor is 0.5"},
      {R"({"max_position_embeddings": 64, "rope_theta": 1e4, "rope_scaling":
           {"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4}})",
       "high_freq_factor is 4, must be above low_freq_factor 4"},
      {R"({"max_position_embeddings": 64,
           "rope_parameters": {"full_attention": {"rope_theta": 1e4}}})",
       "full_attention is an object, one rotation for all layers"},
      {R"({"max_position_embeddings": 64,
           "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}})",
       "partial_rotary_factor is 0.5"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(std::string(Parse(test.text).status().message()), HasSubstr(test.message));
  }
}

}  // namespace
}  // namespace moelight
