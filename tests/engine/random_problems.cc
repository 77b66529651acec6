#include "tests/engine/random_problems.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "engine/backend/formats/bf16.h"
#include "engine/base/check.h"
#include "engine/model/weight_plan.h"
#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

int32_t RandomInt(int32_t low, int32_t high, std::mt19937& random) {
  return std::uniform_int_distribution<int32_t>(low, high)(random);
}

void CutLayers(int32_t num_layers, ModelConfig* config) {
  config->num_hidden_layers = num_layers;
  config->layer_ffn.resize(num_layers);
}

void ScaleExperts(std::vector<ExpertRateCurve>& curves, double factor) {
  for (ExpertRateCurve& curve : curves) curve.flops_per_s.Scale(factor);
}

int64_t Scaled(int64_t bytes, double factor) {
  return static_cast<int64_t>(static_cast<double>(bytes) * factor);
}

constexpr Resource kResources[] = {
    {"link", true,
     [](HardwareProfile& profile, EngineOptions&, double factor) {
       profile.link.h2d_bytes_per_s.Scale(factor);
       profile.link.d2h_bytes_per_s.Scale(factor);
       profile.link.both_bytes_per_s *= factor;
     }},
    {"host memory bandwidth", false,
     [](HardwareProfile& profile, EngineOptions&, double factor) {
       HostProfile& host = profile.host;
       host.read_bytes_per_s *= factor;
       host.shared_bytes_per_s *= factor;
       host.sample_bytes_per_s *= factor;
       host.read_bytes_per_s_by_threads.Scale(factor);
       for (HostAttentionRate& rate : host.attention) rate.bytes_per_s.Scale(factor);
     }},
    {"host memory", false,
     [](HardwareProfile& profile, EngineOptions& options, double factor) {
       profile.host.memory_bytes = Scaled(profile.host.memory_bytes, factor);
       options.host_memory_bytes = Scaled(options.host_memory_bytes, factor);
     }},
    {"GPU memory", true,
     [](HardwareProfile& profile, EngineOptions& options, double factor) {
       profile.gpu.memory_bytes = Scaled(profile.gpu.memory_bytes, factor);
       options.gpu_memory_bytes = Scaled(options.gpu_memory_bytes, factor);
     }},
    {"GPU operations", true,
     [](HardwareProfile& profile, EngineOptions&, double factor) {
       profile.gpu.matmul_flops_per_s.Scale(factor);
       profile.gpu.attention_flops_per_s *= factor;
       ScaleExperts(profile.gpu.experts, factor);
     }},
    {"GPU memory bandwidth", true,
     [](HardwareProfile& profile, EngineOptions&, double factor) {
       profile.gpu.memory_bytes_per_s *= factor;
     }},
    {"CPU operations", false,
     [](HardwareProfile& profile, EngineOptions&, double factor) {
       profile.host.peak_flops_per_s *= factor;
       ScaleExperts(profile.host.experts, factor);
     }},
};

}  // namespace

absl::Span<const Resource> Resources() { return kResources; }

double RandomBetween(double low, double high, std::mt19937& random) {
  return low * std::pow(high / low, std::uniform_real_distribution<>(0, 1)(random));
}

ModelConfig RandomPublishedModel(int32_t max_layers, std::mt19937& random) {
  constexpr const char* kModels[] = {"mixtral-8x7b", "mixtral-8x22b", "qwen3-30b-a3b",
                                     "qwen3-235b-a22b"};
  absl::StatusOr<ModelConfig> config =
      LoadModelConfig(std::string(MOELIGHT_SOURCE_DIR "/tests/data/configs/") +
                      kModels[RandomInt(0, std::size(kModels) - 1, random)]);
  CHECK(config.ok()) << config.status();
  CutLayers(RandomInt(2, std::min(max_layers, config->num_hidden_layers), random), &*config);
  return *std::move(config);
}

ModelConfig RandomSmallModel(std::mt19937& random) {
  ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.model_type = "mixtral";
  config.vocab_size = RandomInt(100, 40'000, random);
  config.hidden_size = 32 * RandomInt(1, 96, random);
  config.num_key_value_heads = RandomInt(1, 8, random);
  config.num_attention_heads = config.num_key_value_heads * RandomInt(1, 8, random);
  config.head_dim = 16 * RandomInt(1, 8, random);
  config.num_experts = RandomInt(2, 64, random);
  config.num_experts_per_tok = RandomInt(1, std::min(8, config.num_experts), random);
  config.moe_intermediate_size = 16 * RandomInt(1, 128, random);
  config.rms_norm_eps = 1e-5;
  if (RandomInt(0, 4, random) == 0) config.sliding_window = RandomInt(1, 1024, random);
  config.use_qk_norm = RandomInt(0, 1, random) == 1;
  config.tie_word_embeddings = RandomInt(0, 1, random) == 1;
  config.max_position_embeddings = RandomInt(128, 8192, random);
  config.num_hidden_layers = RandomInt(2, 6, random);
  config.layer_ffn.assign(config.num_hidden_layers, FfnKind::kMoe);
  if (RandomInt(0, 3, random) == 0) {
    config.intermediate_size = 16 * RandomInt(1, 256, random);
    config.layer_ffn[RandomInt(0, config.num_hidden_layers - 1, random)] = FfnKind::kDense;
  }
  return config;
}

HardwareProfile RandomMachine(std::mt19937& random) {
  HardwareProfile (*const kProfiles[])() = {LargeGpuProfile, SmallGpuProfile, HostOnlyProfile};
  // Two of three have a GPU, most have one.
  HardwareProfile profile = kProfiles[RandomInt(0, 2, random)]();
  if (profile.has_gpu() && RandomInt(0, 9, random) == 0) profile.gpu.count = 2;
  EngineOptions ignored;
  for (const Resource& resource : kResources) {
    resource.scale(profile, ignored, RandomBetween(0.25, 4, random));
  }
  return profile;
}

PlanningProblem RandomProblem(const ModelConfig& config, std::mt19937& random) {
  PlanningProblem problem = {config, {}};
  EngineOptions& options = problem.options;
  HardwareProfile profile = RandomMachine(random);
  options.device = Engine::kSimulatedDevice;
  options.workload.mean_prompt_tokens = static_cast<int32_t>(
      RandomBetween(1, static_cast<double>(config.max_position_embeddings) / 3, random));
  options.workload.mean_prompt_tokens = std::min(options.workload.mean_prompt_tokens, 2000);
  const int64_t room = config.max_position_embeddings - options.workload.mean_prompt_tokens;
  options.workload.num_output_tokens = static_cast<int32_t>(
      RandomBetween(1, static_cast<double>(std::min<int64_t>(room, 1000)), random));
  const int64_t longest = config.max_position_embeddings - options.workload.num_output_tokens;
  options.workload.max_prompt_tokens = static_cast<int32_t>(std::min<int64_t>(
      longest, Scaled(options.workload.mean_prompt_tokens, RandomBetween(1, 6, random))));
  options.max_model_len = options.workload.max_prompt_tokens + options.workload.num_output_tokens;
  // Around the size of the model: from not enough by a little to plenty.
  const WeightLayout layout = {&kBf16Format, DType::kBF16};
  const double model_bytes = static_cast<double>(WeightBytes(config, layout));
  const double layers = config.num_hidden_layers;
  options.host_memory_bytes = static_cast<int64_t>(model_bytes * RandomBetween(1, 4, random) +
                                                   RandomBetween(1 << 28, 1e10, random));
  profile.host.memory_bytes = options.host_memory_bytes;
  if (profile.has_gpu()) {
    options.gpu_memory_bytes =
        static_cast<int64_t>(model_bytes * RandomBetween(1 / layers, 1.2, random) +
                             RandomBetween(1 << 29, 1e10, random));
    profile.gpu.memory_bytes = options.gpu_memory_bytes;
  }
  options.hardware = std::make_shared<HardwareProfile>(profile);
  return problem;
}

}  // namespace moelight
