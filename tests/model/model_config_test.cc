// Goal: every config.json of a supported model is read to the right shape in both spellings, and a
// wrong value is refused by field, value and rule.
#include "engine/model/model_config.h"

#include <cmath>
#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/model/model_files.h"

namespace moelight {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

nlohmann::json Golden(absl::string_view model) {
  return nlohmann::json::parse(ReadAll(DataPath(absl::StrCat("models/", model, "/config.json"))));
}

TEST(ModelConfigTest, GoldenMixtral) {
  const auto config = LoadModelConfig(DataPath("models/mixtral"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "MixtralForCausalLM");
  EXPECT_EQ(config->model_type, "mixtral");
  EXPECT_EQ(config->vocab_size, 512);
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->intermediate_size, 0);
  EXPECT_EQ(config->moe_intermediate_size, 96);
  EXPECT_EQ(config->num_hidden_layers, 3);
  EXPECT_EQ(config->heads().qkv_size(), 4 * 16 + 2 * 2 * 16);
  EXPECT_EQ(config->num_experts, 8);
  EXPECT_EQ(config->num_experts_per_tok, 2);
  EXPECT_TRUE(config->norm_topk_prob);
  EXPECT_FLOAT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->sliding_window, 0);
  EXPECT_FALSE(config->use_qk_norm);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->max_position_embeddings, 512);
  EXPECT_EQ(config->rope.rope_theta, 1e6);
  EXPECT_EQ(config->num_moe_layers(), 3);
  EXPECT_EQ(config->dtype, DType::kBF16);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(2));
  EXPECT_FLOAT_EQ(config->attention_scale(), 0.25f);
  EXPECT_EQ(RopeInvFreq(*config).size(), 8u);
}

TEST(ModelConfigTest, GoldenMixtralWithSlidingWindowInTheNewSpelling) {
  const auto config = LoadModelConfig(DataPath("models/mixtral-sw"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->sliding_window, 16);
  EXPECT_EQ(config->rope.rope_theta, 1e4);
  EXPECT_EQ(config->dtype, DType::kBF16);
}

TEST(ModelConfigTest, GoldenQwen3Moe) {
  const auto config = LoadModelConfig(DataPath("models/qwen3_moe"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_EQ(config->num_experts, 16);  // spelled num_local_experts there
  EXPECT_EQ(config->num_experts_per_tok, 4);
  EXPECT_EQ(config->moe_intermediate_size, 48);
  EXPECT_EQ(config->intermediate_size, 128);
  EXPECT_TRUE(config->use_qk_norm);
  EXPECT_TRUE(config->norm_topk_prob);
  EXPECT_THAT(config->layer_ffn,
              ElementsAre(FfnKind::kMoe, FfnKind::kDense, FfnKind::kMoe, FfnKind::kMoe));
}

TEST(ModelConfigTest, PublishedModelsHaveTheirPublishedParameterCounts) {
  const struct {
    const char* name;
    double total_billion;
    double active_billion;
  } kModels[] = {{"mixtral-8x7b", 46.70, 12.88},
                 {"mixtral-8x22b", 140.6, 39.1},
                 {"qwen3-30b-a3b", 30.53, 3.35},
                 {"qwen3-235b-a22b", 235.1, 22.2}};
  for (const auto& model : kModels) {
    const auto config = LoadModelConfig(DataPath(absl::StrCat("configs/", model.name)));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_NEAR(static_cast<double>(config->num_parameters()) / 1e9 / model.total_billion, 1, 2e-3);
    EXPECT_NEAR(static_cast<double>(config->num_active_parameters()) / 1e9 / model.active_billion,
                1, 5e-3)
        << model.name;
  }
}

TEST(ModelConfigTest, ParameterCountEqualsTheGoldenCheckpoints) {
  for (const char* name : {"mixtral", "mixtral-sw", "qwen3_moe"}) {
    const std::string folder = DataPath(absl::StrCat("models/", name));
    int64_t bytes = 0;
    for (const TestTensor& tensor : ReadTensors(folder + "/model.safetensors")) {
      bytes += static_cast<int64_t>(tensor.data.size());
    }
    EXPECT_EQ(LoadModelConfig(folder)->num_parameters(), bytes / 2) << name;
  }
}

// One change to a golden config.json and what comes of it.
struct Change {
  const char* model;
  const char* patch;  // JSON merge patch; a null removes the field
  const char* error;  // empty: accepted
};

TEST(ModelConfigTest, Accepts) {
  const Change kCases[] = {
      {"mixtral", R"({"head_dim": null})", ""},  // 64 / 4 = 16
      {"mixtral", R"({"num_key_value_heads": null})", ""},
      {"mixtral", R"({"hidden_act": null, "torch_dtype": null})", ""},
      {"mixtral", R"({"torch_dtype": "float32", "attention_bias": false})", ""},
      {"mixtral", R"({"num_local_experts": null, "num_experts": 8})", ""},
      {"mixtral", R"({"num_experts": 8})", ""},
      {"mixtral", R"({"eos_token_id": [2, 7]})", ""},
      {"mixtral", R"({"rope_theta": 1})", "rope_theta is 1"},
      {"qwen3_moe", R"({"mlp_only_layers": null, "decoder_sparse_step": null})", ""},
      {"qwen3_moe", R"({"sliding_window": 64, "use_sliding_window": false})", ""},
  };
  for (const Change& change : kCases) {
    nlohmann::json json = Golden(change.model);
    json.merge_patch(nlohmann::json::parse(change.patch));
    const auto config = ParseModelConfig(json.dump(), "config.json");
    if (*change.error == '\0') {
      EXPECT_TRUE(config.ok()) << change.patch << config.status();
    } else {
      EXPECT_THAT(std::string(config.status().message()), HasSubstr(change.error));
    }
  }
}

TEST(ModelConfigTest, RefusesByFieldValueAndRule) {
  const Change kCases[] = {
      {"mixtral", R"({"architectures": null})", "architectures is missing"},
      {"mixtral", R"({"architectures": []})", "architectures is missing or empty"},
      {"mixtral", R"({"architectures": "MixtralForCausalLM"})", "must be a list of strings"},
      {"mixtral", R"({"architectures": ["LlamaForCausalLM"]})",
       "\"LlamaForCausalLM\" is not supported; supported: MixtralForCausalLM, Qwen3MoeForCausalLM"},
      {"mixtral", R"({"vocab_size": null})", "vocab_size is missing"},
      {"mixtral", R"({"vocab_size": 0})", "vocab_size is 0, must be an integer from 1 to"},
      {"mixtral", R"({"vocab_size": -5})", "vocab_size is -5"},
      {"mixtral", R"({"vocab_size": 512.5})", "vocab_size is 512.5"},
      {"mixtral", R"({"vocab_size": "512"})", "vocab_size is \"512\""},
      {"mixtral", R"({"vocab_size": 18446744073709551615})", "vocab_size is 18446744073709551615"},
      {"mixtral", R"({"hidden_size": 1000000000})", "hidden_size is 1000000000"},
      {"mixtral", R"({"num_hidden_layers": 0})", "num_hidden_layers is 0"},
      {"mixtral", R"({"num_key_value_heads": 3})",
       "num_key_value_heads is 3, must divide num_attention_heads 4"},
      {"mixtral", R"({"head_dim": 15})", "head_dim is 15, must be even"},
      {"mixtral", R"({"head_dim": null, "num_attention_heads": 6})",
       "num_attention_heads is 6, must divide hidden_size 64"},
      {"mixtral", R"({"rms_norm_eps": 0})", "rms_norm_eps is 0"},
      {"mixtral", R"({"rms_norm_eps": null})", "rms_norm_eps is missing"},
      {"mixtral", R"({"num_experts_per_tok": 9})",
       "num_experts_per_tok is 9, must be an integer from 1 to 8"},
      {"mixtral", R"({"num_local_experts": null})",
       "num_experts (or num_local_experts) is missing"},
      {"mixtral", R"({"num_experts": 4})", "num_local_experts is 8, but num_experts is 4"},
      {"mixtral", R"({"sliding_window": 0})", "sliding_window is 0"},
      {"mixtral", R"({"tie_word_embeddings": 1})", "tie_word_embeddings is 1, must be true or"},
      {"mixtral", R"({"eos_token_id": 512})", "eos_token_id is 512"},
      {"mixtral", R"({"hidden_act": "gelu"})", "hidden_act is \"gelu\", only \"silu\""},
      {"mixtral", R"({"torch_dtype": "float8_e4m3fn"})", "torch_dtype is \"float8_e4m3fn\""},
      {"mixtral", R"({"quantization_config": {"quant_method": "awq"}})", "quantization_config"},
      {"mixtral", R"({"intermediate_size": null})", "intermediate_size is missing"},
      {"qwen3_moe", R"({"attention_bias": true})", "attention_bias is true, only false"},
      {"qwen3_moe", R"({"mlp_only_layers": [4]})", "mlp_only_layers is a list, of which 4"},
      {"qwen3_moe", R"({"mlp_only_layers": ["1"]})", "mlp_only_layers is a list, of which \"1\""},
      {"qwen3_moe", R"({"decoder_sparse_step": 0})", "decoder_sparse_step is 0"},
      {"qwen3_moe", R"({"intermediate_size": null})", "intermediate_size is missing"},
  };
  for (const Change& change : kCases) {
    nlohmann::json json = Golden(change.model);
    json.merge_patch(nlohmann::json::parse(change.patch));
    const auto config = ParseModelConfig(json.dump(), "dir/config.json");
    EXPECT_FALSE(config.ok()) << change.patch;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(change.error)) << change.patch;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("dir/config.json: "));
  }
}

TEST(ModelConfigTest, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[]", "3", "{\"a\":", "\"x\""}) {
    EXPECT_EQ(ParseModelConfig(text, "c").status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(ParseModelConfig(std::string(1'000'000, '['), "c").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ModelConfigTest, MissingFolderAndFile) {
  EXPECT_EQ(LoadModelConfig("/nonexistent").status().code(), absl::StatusCode::kNotFound);
  TempFolder folder;
  EXPECT_THAT(std::string(LoadModelConfig(folder.path()).status().message()),
              HasSubstr(folder.Path("config.json")));
}

TEST(ModelConfigTest, LargestAllowedSizesDoNotOverflow) {
  nlohmann::json json = Golden("qwen3_moe");
  json.merge_patch(nlohmann::json::parse(
      R"({"vocab_size": 16777216, "hidden_size": 131072, "num_hidden_layers": 1024,
          "num_attention_heads": 4096, "num_key_value_heads": 4096, "head_dim": 4096,
          "num_local_experts": 4096, "moe_intermediate_size": 262144, "intermediate_size": 262144})"));
  const auto config = ParseModelConfig(json.dump(), "c");
  ASSERT_TRUE(config.ok()) << config.status();
  const double layer = 3.0 * 4096 * 131072 * 262144;
  EXPECT_NEAR(static_cast<double>(config->num_parameters()) / (1023 * layer), 1, 0.03);
}

TEST(ModelConfigTest, Qwen3LayerKindsFollowStepAndList) {
  nlohmann::json json = Golden("qwen3_moe");
  json["decoder_sparse_step"] = 2;
  json["mlp_only_layers"] = {3};
  const auto config = ParseModelConfig(json.dump(), "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->layer_ffn,
              ElementsAre(FfnKind::kDense, FfnKind::kMoe, FfnKind::kDense, FfnKind::kDense));
}

TEST(ModelConfigTest, Qwen3SlidingWindowNeedsItsSwitch) {
  nlohmann::json json = Golden("qwen3_moe");
  json["sliding_window"] = 64;
  EXPECT_EQ(ParseModelConfig(json.dump(), "c")->sliding_window, 0);
  json["use_sliding_window"] = true;
  EXPECT_EQ(ParseModelConfig(json.dump(), "c")->sliding_window, 64);
}

TEST(ModelConfigTest, YarnLengthensTheContextAndScalesAttention) {
  nlohmann::json json = Golden("qwen3_moe");
  json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
  const auto config = ParseModelConfig(json.dump(), "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->max_position_embeddings, 2048);
  const double factor = 0.1 * std::log(4.0) + 1;
  EXPECT_NEAR(config->attention_scale(), factor * factor / std::sqrt(32.0), 1e-6);
}

}  // namespace
}  // namespace moelight
