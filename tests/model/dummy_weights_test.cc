// Goal: dummy weights are reproducible, of the intended scale, and route like a trained model: each
// expert's share within a factor 1.5 of even in every layer, not only in the first.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "engine/model/weight_loader.h"
#include "tests/model/model_files.h"

namespace moelight {
namespace {

struct Shape {
  int32_t hidden_size;
  int32_t num_experts;
  int32_t num_experts_per_tok;
  int32_t num_layers;
};

ModelConfig MakeConfig(const Shape& shape) {
  ModelConfig config;
  config.architecture = "Qwen3MoeForCausalLM";
  config.vocab_size = 1024;
  config.hidden_size = shape.hidden_size;
  config.moe_intermediate_size = 48;
  config.num_hidden_layers = shape.num_layers;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 16;
  config.num_experts = shape.num_experts;
  config.num_experts_per_tok = shape.num_experts_per_tok;
  config.rms_norm_eps = 1e-6f;
  config.use_qk_norm = true;
  config.layer_ffn.assign(shape.num_layers, FfnKind::kMoe);
  return config;
}

std::unique_ptr<ModelWeights> LoadDummy(const ModelConfig& config, int num_threads = 2) {
  const WeightLayout layout = {FindWeightFormat("f32"), DType::kF32};
  auto weights = LoadWeights("", config, layout, LoadFormat::kDummy, num_threads, Logger::Null());
  EXPECT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->bytes, WeightBytes(config, layout));
  return *std::move(weights);
}

float At(const WeightMatrix& matrix, int64_t row, int64_t col) {
  return matrix.format->get(matrix.data, matrix.num_rows, matrix.num_cols, row, col);
}

std::vector<float> Multiply(const WeightMatrix& matrix, const std::vector<float>& x) {
  std::vector<float> y(matrix.num_rows);
  for (int64_t r = 0; r < matrix.num_rows; ++r) {
    for (int64_t c = 0; c < matrix.num_cols; ++c) y[r] += At(matrix, r, c) * x[c];
  }
  return y;
}

std::vector<float> RmsNorm(const std::vector<float>& x) {
  const double sum = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  const float scale = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(x.size())));
  std::vector<float> y;
  for (const float v : x) y.push_back(v * scale);
  return y;
}

// The chosen experts, best first, with gates that sum to 1.
std::vector<std::pair<int, float>> Route(const LayerWeights& layer, const std::vector<float>& x,
                                         int num_chosen) {
  const int64_t num_experts = layer.router.dim(0);
  std::vector<std::pair<int, float>> scored;
  for (int64_t e = 0; e < num_experts; ++e) {
    const float* row = layer.router.as<float>() + e * layer.router.dim(1);
    scored.emplace_back(e, std::inner_product(x.begin(), x.end(), row, 0.0f));
  }
  std::partial_sort(scored.begin(), scored.begin() + num_chosen, scored.end(),
                    [](const auto& a, const auto& b) { return a.second > b.second; });
  scored.resize(num_chosen);
  float sum = 0;
  for (auto& [expert, score] : scored) {
    score = std::exp(score);
    sum += score;
  }
  for (auto& [expert, score] : scored) score /= sum;
  return scored;
}

std::vector<float> Expert(const FfnWeights& ffn, const std::vector<float>& x) {
  const std::vector<float> gate_up = Multiply(ffn.gate_up, x);
  const size_t size = gate_up.size() / 2;
  std::vector<float> inner(size);
  for (size_t i = 0; i < size; ++i) {
    inner[i] = gate_up[i] / (1 + std::exp(-gate_up[i])) * gate_up[size + i];
  }
  return Multiply(ffn.down, inner);
}

void ExpectBalanced(const std::vector<int64_t>& counts, const std::string& where) {
  const double even =
      static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0})) /
      static_cast<double>(counts.size());
  for (size_t e = 0; e < counts.size(); ++e) {
    const double share = static_cast<double>(counts[e]) / even;
    EXPECT_GT(share, 1 / 1.5) << where << " expert " << e;
    EXPECT_LT(share, 1.5) << where << " expert " << e;
  }
}

class DummyRoutingTest : public ::testing::TestWithParam<Shape> {};
INSTANTIATE_TEST_SUITE_P(, DummyRoutingTest,
                         ::testing::Values(Shape{64, 8, 2, 2}, Shape{100, 6, 2, 2},
                                           Shape{256, 16, 4, 2}, Shape{512, 128, 8, 2}),
                         [](const auto& info) {
                           return absl::StrCat("hidden", info.param.hidden_size, "experts",
                                               info.param.num_experts);
                         });

// Hidden states of independent directions, as those of different tokens are.
TEST_P(DummyRoutingTest, BalancedForRandomHiddenStates) {
  const ModelConfig config = MakeConfig(GetParam());
  const auto weights = LoadDummy(config);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int num_tokens = 200 * config.num_experts / config.num_experts_per_tok;
  for (const LayerWeights& layer : weights->layers) {
    std::vector<int64_t> counts(config.num_experts);
    for (int t = 0; t < num_tokens; ++t) {
      std::vector<float> x(config.hidden_size);
      for (float& v : x) v = normal(random);
      for (const auto& [expert, gate] : Route(layer, RmsNorm(x), config.num_experts_per_tok)) {
        ++counts[expert];
      }
    }
    ExpectBalanced(counts, "random hidden state");
  }
}

// Embedding and then the experts of every layer on the residual stream: the share stays even at
// depth and the hidden state stays O(1).
TEST(DummyWeightsTest, BalancedAtDepth) {
  const ModelConfig config = MakeConfig({64, 8, 2, 12});
  const auto weights = LoadDummy(config);
  std::vector<std::vector<int64_t>> counts(config.num_hidden_layers,
                                           std::vector<int64_t>(config.num_experts));
  double sum_squares = 0;
  for (int token = 0; token < config.vocab_size; ++token) {
    const float* row = weights->embed.as<float>() + token * config.hidden_size;
    std::vector<float> hidden(row, row + config.hidden_size);
    for (int l = 0; l < config.num_hidden_layers; ++l) {
      const LayerWeights& layer = weights->layers[l];
      const std::vector<float> x = RmsNorm(hidden);
      for (const auto& [expert, gate] : Route(layer, x, config.num_experts_per_tok)) {
        ++counts[l][expert];
        const std::vector<float> y = Expert(layer.experts[expert], x);
        for (size_t i = 0; i < y.size(); ++i) hidden[i] += gate * y[i];
      }
    }
    sum_squares += std::inner_product(hidden.begin(), hidden.end(), hidden.begin(), 0.0);
  }
  for (int l = 0; l < config.num_hidden_layers; ++l) {
    ExpectBalanced(counts[l], absl::StrCat("layer ", l));
  }
  const double variance = sum_squares / config.vocab_size / config.hidden_size;
  EXPECT_GT(variance, 0.9);
  EXPECT_LT(variance, 1.3);
}

// Layers choose independently: the same token does not go to the same experts everywhere.
TEST(DummyWeightsTest, LayersRouteDifferently) {
  const ModelConfig config = MakeConfig({64, 8, 1, 2});
  const auto weights = LoadDummy(config);
  int same = 0;
  for (int token = 0; token < config.vocab_size; ++token) {
    const float* row = weights->embed.as<float>() + token * config.hidden_size;
    const std::vector<float> x = RmsNorm({row, row + config.hidden_size});
    same += Route(weights->layers[0], x, 1)[0].first == Route(weights->layers[1], x, 1)[0].first;
  }
  EXPECT_LT(same, config.vocab_size / 4);  // 1/8 by chance
}

TEST(DummyWeightsTest, SameForAnyNumberOfThreads) {
  const ModelConfig config = MakeConfig({100, 6, 2, 3});
  const auto one = LoadDummy(config, 1);
  const auto many = LoadDummy(config, 5);
  ASSERT_EQ(one->bytes, many->bytes);
  EXPECT_EQ(std::string(one->arena.data(), one->bytes),
            std::string(many->arena.data(), many->bytes));
}

TEST(DummyWeightsTest, ScalesAreThoseIntended) {
  const ModelConfig config = MakeConfig({256, 4, 2, 8});
  const auto weights = LoadDummy(config);
  const auto deviation = [](const WeightMatrix& matrix) {
    double sum = 0;
    double squares = 0;
    for (int64_t r = 0; r < matrix.num_rows; ++r) {
      for (int64_t c = 0; c < matrix.num_cols; ++c) {
        sum += At(matrix, r, c);
        squares += At(matrix, r, c) * At(matrix, r, c);
      }
    }
    const double n = static_cast<double>(matrix.num_rows * matrix.num_cols);
    EXPECT_LT(std::abs(sum / n), 4 * std::sqrt(squares / n / n));
    return std::sqrt(squares / n);
  };
  const LayerWeights& layer = weights->layers[3];
  EXPECT_NEAR(deviation(layer.qkv) * 16, 1, 0.03);
  EXPECT_NEAR(deviation(layer.experts[1].gate_up) * 16, 1, 0.03);
  EXPECT_NEAR(deviation(weights->lm_head) * 16, 1, 0.03);
  // sqrt(0.25 / 16 blocks) for inputs of variance 1.
  EXPECT_NEAR(deviation(layer.o) * std::sqrt(32.0), 0.125, 0.005);
  EXPECT_NEAR(layer.attn_norm.as<float>()[7], 1, 0);
}

TEST(DummyWeightsTest, NeedsNoCheckpointForAnyGoldenConfig) {
  for (const char* name : {"mixtral", "mixtral-sw", "qwen3_moe"}) {
    const auto config = LoadModelConfig(DataPath(absl::StrCat("models/", name)));
    ASSERT_TRUE(config.ok()) << config.status();
    LoadDummy(*config);
  }
}

}  // namespace
}  // namespace moelight
