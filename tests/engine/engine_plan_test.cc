// Goal: every size is decided before anything is allocated, within the caps; a cap that is too
// small is refused with the key and the least that would do.
#include "engine/engine_plan.h"

#include <string>

#include <absl/strings/match.h>
#include <gtest/gtest.h>

#include "engine/model/model_config.h"
#include "tests/testing/accelerator_double.h"

namespace moelight {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

// Plans a published model, of which nothing is ever made, on a device with memory of its own.
absl::StatusOr<EnginePlan> PlanFor(const std::string& model, const EngineOptions& options) {
  const std::unique_ptr<Backend> backend = MakeAcceleratorDouble();
  BackendOptions host_options;
  if (options.kv_format != "auto") host_options.kv_format = options.kv_format;
  const std::unique_ptr<Backend> host_backend = *CreateBackend("reference", host_options);
  const ModelConfig config =
      *LoadModelConfig(std::string(MOELIGHT_SOURCE_DIR "/tests/data/configs/") + model);
  return MakeEnginePlan(options, config, *backend, host_backend.get());
}

EngineOptions PaperOptions() {
  EngineOptions options;
  // The double's weights are f32: twice the bytes of what the GPU holds.
  options.gpu_memory_bytes = 32 * kGiB;
  options.host_memory_bytes = 224 * kGiB;
  options.max_running_sequences = 1400;
  options.max_step_tokens = 16384;
  options.max_model_len = 1024;
  return WithFixedChoices(options);
}

TEST(EnginePlanTest, KeepsBothCapsAndUsesThem) {
  for (const char* model : {"mixtral-8x7b", "qwen3-30b-a3b"}) {
    const EngineOptions options = PaperOptions();
    const absl::StatusOr<EnginePlan> plan = PlanFor(model, options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const int64_t gpu_bytes = plan->budget.Total(MemoryTier::kGpu);
    const int64_t host_bytes = plan->budget.Total(MemoryTier::kHost);
    EXPECT_LE(gpu_bytes, options.gpu_memory_bytes);
    EXPECT_LE(host_bytes, options.host_memory_bytes);
    // Nothing that a page of weights could have used.
    EXPECT_GT(gpu_bytes, options.gpu_memory_bytes - 4 * options.weight_page_bytes);
    EXPECT_EQ(plan->schedule->name, "cgopipe");
    EXPECT_GT(plan->experts.num_resident_pages(), 0);
    EXPECT_GT(plan->experts.num_ring_slots, 0);
  }
}

TEST(EnginePlanTest, ACapTooSmallIsRefusedWithTheLeastThatWouldDo) {
  EngineOptions options = PaperOptions();
  options.gpu_memory_bytes = 2 * kGiB;
  const absl::Status refused = PlanFor("mixtral-8x7b", options).status();
  ASSERT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "engine.gpu_memory")) << refused;
  // "the gpu needs N MiB": with N it works, with a page less it does not.
  const std::string message(refused.message());
  const int64_t needed_mib = std::stoll(message.substr(message.find("needs ") + 6));
  options.gpu_memory_bytes = needed_mib * kMiB;
  EXPECT_TRUE(PlanFor("mixtral-8x7b", options).ok());
  options.gpu_memory_bytes -= 2 * options.weight_page_bytes;
  EXPECT_FALSE(PlanFor("mixtral-8x7b", options).ok());

  options = PaperOptions();
  options.host_memory_bytes = 64 * kGiB;
  const absl::Status host_refused = PlanFor("mixtral-8x7b", options).status();
  EXPECT_EQ(host_refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(host_refused.message(), "engine.host_memory")) << host_refused;
}

// The double has f32: with another format the device cannot attend, neither to prompts.
TEST(EnginePlanTest, AKvFormatThatTheDeviceLacksIsAttendedOnTheHost) {
  EngineOptions options = PaperOptions();
  const EnginePlan own = *PlanFor("mixtral-8x7b", options);
  EXPECT_EQ(own.cut.attention, AttentionPlacement::kPrefillOnDevice);
  options.kv_format = "int8";
  const absl::StatusOr<EnginePlan> plan = PlanFor("mixtral-8x7b", options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cut.attention, AttentionPlacement::kHost);
  EXPECT_EQ(plan->kv_cache.dtype, DType::kI8);
  EXPECT_EQ(plan->host_op_limits.max_tokens, plan->op_limits.max_tokens);
  // 128 bytes and a scale instead of 512 bytes.
  EXPECT_EQ(plan->kv_cache.page_bytes(), own.kv_cache.page_bytes() * 132 / 512);

  options.schedule = "flexgen";
  const absl::Status refused = PlanFor("mixtral-8x7b", options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(refused.message(), "engine.kv_format: int8")) << refused;
}

// Half of the decode tokens fit where a micro-batch with a prompt of full length does.
TEST(EnginePlanTest, GroupsOfMicroBatchesTakeNoMemory) {
  EngineOptions options = PaperOptions();
  options.num_micro_batches = 16;
  const EnginePlan plain = *PlanFor("mixtral-8x7b", options);
  EXPECT_EQ(plain.cut.max_group_rows, 0);
  options.expert_coalescing = "on";
  const EnginePlan groups = *PlanFor("mixtral-8x7b", options);
  EXPECT_GE(groups.cut.max_group_rows, options.max_running_sequences / 2);
  EXPECT_EQ(groups.budget.Total(MemoryTier::kGpu), plain.budget.Total(MemoryTier::kGpu));
  EXPECT_EQ(groups.experts.num_resident_pages(), plain.experts.num_resident_pages());
  const std::unique_ptr<Backend> backend = MakeAcceleratorDouble();
  EXPECT_TRUE(DescribePlan(groups, *backend, /*pinned=*/true).coalesced_experts);
  EXPECT_FALSE(DescribePlan(plain, *backend, /*pinned=*/true).coalesced_experts);
}

TEST(EnginePlanTest, OptionsOutOfRangeAreNamed) {
  const auto message_of = [](auto&& change) {
    EngineOptions options = PaperOptions();
    change(options);
    return std::string(PlanFor("mixtral-8x7b", options).status().message());
  };
  EXPECT_TRUE(absl::StrContains(message_of([](EngineOptions& o) { o.weight_page_bytes = 3 << 20; }),
                                "engine.weight_page"));
  EXPECT_TRUE(absl::StrContains(message_of([](EngineOptions& o) { o.weight_ring_percent = 90; }),
                                "weight_ring_percent"));
  EXPECT_TRUE(absl::StrContains(message_of([](EngineOptions& o) { o.num_micro_batches = 65; }),
                                "num_micro_batches"));
  EXPECT_TRUE(absl::StrContains(message_of([](EngineOptions& o) { o.expert_coalescing = "maybe"; }),
                                "engine.expert_coalescing: \"maybe\" is not one of auto, on, off"));
  EXPECT_TRUE(absl::StrContains(message_of([](EngineOptions& o) { o.schedule = "fast"; }),
                                "cgopipe, serial, flexgen, flexgen_cpu"));
}

}  // namespace
}  // namespace moelight
