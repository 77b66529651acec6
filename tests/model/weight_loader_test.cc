// Goal: after a load every stored element equals the checkpoint's, in every format, from every
// layout of files; a checkpoint that does not fit its config.json is refused by tensor.
#include "engine/model/weight_loader.h"

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/model/model_files.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

using TensorsByName = std::map<std::string, TestTensor>;

std::string GoldenFolder(absl::string_view model) {
  return DataPath(absl::StrCat("models/", model));
}

TensorsByName GoldenTensors(absl::string_view model) {
  TensorsByName tensors;
  for (TestTensor& tensor : ReadTensors(GoldenFolder(model) + "/model.safetensors")) {
    const std::string name = tensor.name;
    tensors.emplace(name, std::move(tensor));
  }
  return tensors;
}

void WriteSingle(const TempFolder& folder, const TensorsByName& tensors, int padding = 0) {
  std::vector<TestTensor> list;
  for (const auto& [name, tensor] : tensors) list.push_back(tensor);
  folder.Write("model.safetensors", SafetensorsFile(list, padding));
}

float Bf16At(const TestTensor& tensor, int64_t i) {
  BFloat16 value;
  std::memcpy(&value, tensor.data.data() + 2 * i, 2);
  return value.ToFloat();
}

// Compares a stored matrix with rows of the checkpoint's tensors, one after another.
void ExpectMatrix(const WeightMatrix& matrix, const std::vector<const TestTensor*>& sources) {
  int64_t row = 0;
  for (const TestTensor* source : sources) {
    ASSERT_EQ(source->shape[1], matrix.num_cols) << source->name;
    for (int64_t r = 0; r < source->shape[0]; ++r, ++row) {
      for (int64_t c = 0; c < matrix.num_cols; ++c) {
        const float stored =
            matrix.format->get(matrix.data, matrix.num_rows, matrix.num_cols, row, c);
        ASSERT_EQ(stored, Bf16At(*source, r * matrix.num_cols + c))
            << source->name << r << "," << c;
      }
    }
  }
  EXPECT_EQ(row, matrix.num_rows);
}

void ExpectPlain(const TensorView& view, const TestTensor& source) {
  ASSERT_EQ(view.num_elements() * 2, static_cast<int64_t>(source.data.size())) << source.name;
  for (int64_t i = 0; i < view.num_elements(); ++i) {
    const float stored =
        view.dtype == DType::kF32 ? view.as<float>()[i] : view.as<BFloat16>()[i].ToFloat();
    ASSERT_EQ(stored, Bf16At(source, i)) << source.name << " " << i;
  }
}

struct FfnNames {
  std::string gate, up, down, router;
};
FfnNames NamesOf(bool mixtral) {
  if (mixtral) return {".w1", ".w3", ".w2", "block_sparse_moe"};
  return {".gate_proj", ".up_proj", ".down_proj", "mlp"};
}

// `tensors` are those of the golden checkpoint, in the published spelling.
void ExpectEqual(const ModelWeights& weights, const ModelConfig& config,
                 const TensorsByName& tensors) {
  const FfnNames names = NamesOf(config.model_type == "mixtral");
  const auto at = [&](const std::string& name) -> const TestTensor& { return tensors.at(name); };
  ExpectPlain(weights.embed, at("model.embed_tokens.weight"));
  ExpectPlain(weights.final_norm, at("model.norm.weight"));
  ExpectMatrix(weights.lm_head,
               {&at(config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight")});
  ASSERT_EQ(static_cast<int>(weights.layers.size()), config.num_hidden_layers);
  for (int l = 0; l < config.num_hidden_layers; ++l) {
    const LayerWeights& layer = weights.layers[l];
    const std::string prefix = absl::StrCat("model.layers.", l, ".");
    const std::string attn = prefix + "self_attn.";
    ExpectPlain(layer.attn_norm, at(prefix + "input_layernorm.weight"));
    ExpectPlain(layer.ffn_norm, at(prefix + "post_attention_layernorm.weight"));
    ExpectMatrix(layer.qkv, {&at(attn + "q_proj.weight"), &at(attn + "k_proj.weight"),
                             &at(attn + "v_proj.weight")});
    ExpectMatrix(layer.o, {&at(attn + "o_proj.weight")});
    EXPECT_EQ(layer.q_norm.defined(), config.use_qk_norm);
    if (config.use_qk_norm) {
      ExpectPlain(layer.q_norm, at(attn + "q_norm.weight"));
      ExpectPlain(layer.k_norm, at(attn + "k_norm.weight"));
    }
    const std::string ffn = absl::StrCat(prefix, names.router);
    const auto expect_ffn = [&](const FfnWeights& stored, const std::string& where) {
      ExpectMatrix(stored.gate_up,
                   {&at(where + names.gate + ".weight"), &at(where + names.up + ".weight")});
      ExpectMatrix(stored.down, {&at(where + names.down + ".weight")});
    };
    EXPECT_EQ(layer.dense.gate_up.defined(), !config.layer_is_moe(l));
    if (config.layer_is_moe(l)) {
      ExpectPlain(layer.router, at(ffn + ".gate.weight"));
      ASSERT_EQ(static_cast<int>(layer.experts.size()), config.num_experts);
      for (int e = 0; e < config.num_experts; ++e) {
        expect_ffn(layer.experts[e], absl::StrCat(ffn, ".experts.", e));
      }
    } else {
      expect_ffn(layer.dense, ffn);
    }
  }
}

absl::StatusOr<std::unique_ptr<ModelWeights>> Load(const std::string& folder,
                                                   const ModelConfig& config, int num_threads = 2) {
  const WeightLayout layout = {FindWeightFormat("f32"), DType::kF32};
  return LoadWeights(folder, config, layout, LoadFormat::kSafetensors, num_threads, Logger::Null());
}

class GoldenModelTest : public ::testing::TestWithParam<const char*> {
 protected:
  GoldenModelTest()
      : tensors_(GoldenTensors(GetParam())), config_(*LoadModelConfig(GoldenFolder(GetParam()))) {}

  TensorsByName tensors_;
  ModelConfig config_;
};
INSTANTIATE_TEST_SUITE_P(, GoldenModelTest, ::testing::Values("mixtral", "mixtral-sw", "qwen3_moe"),
                         [](const auto& info) {
                           return absl::StrReplaceAll(info.param, {{"-", "_"}});
                         });

TEST_P(GoldenModelTest, EqualsTheCheckpointInEveryFormat) {
  for (const WeightFormat* format : WeightFormats()) {
    for (const DType embedding : {DType::kF32, DType::kBF16}) {
      for (const int num_threads : {1, 3}) {
        SCOPED_TRACE(absl::StrCat(format->name, " ", num_threads));
        const WeightLayout layout = {format, embedding};
        const auto weights = LoadWeights(GoldenFolder(GetParam()), config_, layout,
                                         LoadFormat::kSafetensors, num_threads, Logger::Null());
        ASSERT_TRUE(weights.ok()) << weights.status();
        EXPECT_EQ((*weights)->bytes, WeightBytes(config_, layout));
        EXPECT_EQ((*weights)->arena.bytes(), (*weights)->bytes);
        EXPECT_EQ((*weights)->embed.dtype, embedding);
        ExpectEqual(**weights, config_, tensors_);
      }
    }
  }
}

TEST_P(GoldenModelTest, ShardsAtOddOffsetsGiveTheSame) {
  TempFolder folder;
  std::vector<std::vector<TestTensor>> shards(3);
  nlohmann::json weight_map;
  for (const auto& [name, tensor] : tensors_) {
    const size_t shard = name.size() % shards.size();
    shards[shard].push_back(tensor);
    weight_map[name] = absl::StrCat("part-", shard, ".safetensors");
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    // One of two paddings leaves the data unaligned.
    folder.Write(absl::StrCat("part-", i, ".safetensors"),
                 SafetensorsFile(shards[i], static_cast<int>(i)));
  }
  folder.Write("model.safetensors.index.json", nlohmann::json{{"weight_map", weight_map}}.dump());
  const auto weights = Load(folder.path(), config_);
  ASSERT_TRUE(weights.ok()) << weights.status();
  ExpectEqual(**weights, config_, tensors_);
}

// transformers 5 can save all experts of a layer as one tensor.
TEST_P(GoldenModelTest, FusedExpertsGiveTheSame) {
  const FfnNames names = NamesOf(config_.model_type == "mixtral");
  TensorsByName fused = tensors_;
  for (int l = 0; l < config_.num_hidden_layers; ++l) {
    if (!config_.layer_is_moe(l)) continue;
    const std::string from = absl::StrCat("model.layers.", l, ".", names.router);
    const std::string to = absl::StrCat("model.layers.", l, ".mlp");
    TestTensor router = tensors_.at(from + ".gate.weight");
    fused.erase(router.name);
    router.name = to + ".gate.weight";
    fused[router.name] = router;
    const int64_t size = config_.moe_intermediate_size;
    TestTensor gate_up = {to + ".experts.gate_up_proj",
                          "BF16",
                          {config_.num_experts, 2 * size, config_.hidden_size},
                          ""};
    TestTensor down = {
        to + ".experts.down_proj", "BF16", {config_.num_experts, config_.hidden_size, size}, ""};
    for (int e = 0; e < config_.num_experts; ++e) {
      const std::string expert = absl::StrCat(from, ".experts.", e);
      gate_up.data += tensors_.at(expert + names.gate + ".weight").data +
                      tensors_.at(expert + names.up + ".weight").data;
      down.data += tensors_.at(expert + names.down + ".weight").data;
      for (const std::string& part : {names.gate, names.up, names.down}) {
        fused.erase(expert + part + ".weight");
      }
    }
    fused[gate_up.name] = gate_up;
    fused[down.name] = down;
  }
  TempFolder folder;
  WriteSingle(folder, fused);
  const auto weights = Load(folder.path(), config_);
  ASSERT_TRUE(weights.ok()) << weights.status();
  ExpectEqual(**weights, config_, tensors_);
}

TEST_P(GoldenModelTest, TiedEmbeddingsFillTheHead) {
  TempFolder folder;
  tensors_.erase("lm_head.weight");
  config_.tie_word_embeddings = true;
  WriteSingle(folder, tensors_);
  const auto weights = Load(folder.path(), config_);
  ASSERT_TRUE(weights.ok()) << weights.status();
  ExpectEqual(**weights, config_, tensors_);
}

TEST_P(GoldenModelTest, ExpertsOfALayerAreOneRangeInOrder) {
  const auto weights = Load(GoldenFolder(GetParam()), config_);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const char* previous_end = (*weights)->arena.data();
  for (const LayerWeights& layer : (*weights)->layers) {
    if (layer.experts.empty()) continue;
    const char* next = static_cast<const char*>(layer.experts[0].gate_up.data);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(next) % 4096, 0u);
    EXPECT_GE(next, previous_end);
    for (const FfnWeights& expert : layer.experts) {
      for (const WeightMatrix* matrix : {&expert.gate_up, &expert.down}) {
        EXPECT_EQ(matrix->data, next);
        next += matrix->format->bytes(matrix->num_rows, matrix->num_cols);
      }
    }
    // What every token needs lies before the experts.
    EXPECT_LT(layer.qkv.data, layer.experts[0].gate_up.data);
    previous_end = next;
  }
  EXPECT_EQ(previous_end, (*weights)->arena.data() + (*weights)->bytes);
}

TEST(WeightLoaderTest, F32AndF16TensorsAreConverted) {
  TensorsByName tensors = GoldenTensors("mixtral-sw");
  TensorsByName stored = tensors;
  for (auto& [name, tensor] : stored) {
    if (absl::StrContains(name, "layers.0")) {
      std::string data;
      for (size_t i = 0; i < tensor.data.size() / 2; ++i) {
        const float value = Bf16At(tensor, static_cast<int64_t>(i));
        data.append(reinterpret_cast<const char*>(&value), sizeof(value));
      }
      tensor.dtype = "F32";
      tensor.data = data;
    } else if (absl::StrContains(name, "norm")) {
      // 1 in both formats: the only value that tests need of f16 here.
      for (size_t i = 0; i < tensor.data.size(); i += 2) {
        tensors[name].data.replace(i, 2, "\x80\x3f", 2);
        tensor.data.replace(i, 2, std::string("\x00\x3c", 2));
      }
      tensor.dtype = "F16";
    }
  }
  TempFolder folder;
  WriteSingle(folder, stored);
  const ModelConfig config = *LoadModelConfig(GoldenFolder("mixtral-sw"));
  const auto weights = Load(folder.path(), config);
  ASSERT_TRUE(weights.ok()) << weights.status();
  ExpectEqual(**weights, config, tensors);
}

TEST(WeightLoaderTest, RefusesACheckpointThatDoesNotFitTheConfig) {
  const TensorsByName tensors = GoldenTensors("mixtral-sw");
  const ModelConfig config = *LoadModelConfig(GoldenFolder("mixtral-sw"));
  const std::string expert = "model.layers.1.block_sparse_moe.experts.2.w2.weight";
  const auto message_of = [](const TensorsByName& changed, const ModelConfig& model) {
    TempFolder folder;
    WriteSingle(folder, changed);
    const auto weights = Load(folder.path(), model);
    EXPECT_EQ(weights.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(weights.status().message());
  };

  TensorsByName changed = tensors;
  changed.erase(expert);
  EXPECT_THAT(message_of(changed, config), HasSubstr("1 of 41 tensors are missing: " + expert));
  for (auto it = changed.begin(); it != changed.end();) {
    it = absl::StrContains(it->first, "experts") ? changed.erase(it) : std::next(it);
  }
  EXPECT_THAT(message_of(changed, config), HasSubstr("24 of 41 tensors are missing"));
  EXPECT_THAT(message_of(changed, config), HasSubstr("and 19 more"));

  changed = tensors;
  std::swap(changed[expert].shape[0], changed[expert].shape[1]);
  EXPECT_THAT(message_of(changed, config),
              HasSubstr(absl::StrCat("model.safetensors: tensor \"", expert,
                                     "\" is [80, 64] BF16, config.json asks for [64, 80]")));
  changed = tensors;
  changed[expert].dtype = "I16";
  EXPECT_THAT(message_of(changed, config), HasSubstr("supported dtypes are BF16, F16 and F32"));

  ModelConfig larger = config;
  larger.vocab_size += 1;
  EXPECT_THAT(message_of(tensors, larger), HasSubstr("config.json asks for [513, 64]"));
}

TEST(WeightLoaderTest, ExtraTensorsAreAllowed) {
  TensorsByName tensors = GoldenTensors("mixtral-sw");
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {
      "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {1}, "1234"};
  TempFolder folder;
  WriteSingle(folder, tensors);
  const ModelConfig config = *LoadModelConfig(GoldenFolder("mixtral-sw"));
  EXPECT_TRUE(Load(folder.path(), config).ok());
}

TEST(WeightLoaderTest, LoadFormatNames) {
  EXPECT_EQ(*ParseLoadFormat("auto"), LoadFormat::kSafetensors);
  EXPECT_EQ(*ParseLoadFormat("safetensors"), LoadFormat::kSafetensors);
  EXPECT_EQ(*ParseLoadFormat("dummy"), LoadFormat::kDummy);
  EXPECT_THAT(std::string(ParseLoadFormat("gguf").status().message()),
              HasSubstr("\"gguf\" is not a load format: auto, safetensors, dummy"));
}

TEST(WeightBytesTest, PublishedModels) {
  const struct {
    const char* name;
    double gigabytes;  // 4 bytes for each parameter
  } kModels[] = {{"mixtral-8x7b", 186.8}, {"qwen3-30b-a3b", 122.1}, {"qwen3-235b-a22b", 940.4}};
  for (const auto& model : kModels) {
    const auto config = LoadModelConfig(DataPath(absl::StrCat("configs/", model.name)));
    ASSERT_TRUE(config.ok()) << config.status();
    const int64_t bytes = WeightBytes(*config, {FindWeightFormat("f32"), DType::kF32});
    EXPECT_NEAR(static_cast<double>(bytes) / 1e9 / model.gigabytes, 1, 2e-3) << model.name;
    EXPECT_GE(bytes, 4 * config->num_parameters());
  }
}

}  // namespace
}  // namespace moelight
