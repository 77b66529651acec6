// Goal: the simulated backend runs the engine's own scheduler, plans and forward pass, gives the
// same times every time, and agrees with the planner's table of task costs, which is another way to
// say what each task does.
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/decision.h"
#include "engine/engine.h"
#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

EngineOptions OptionsFor(const HardwareProfile& profile, const std::string& model) {
  EngineOptions options;
  options.model = std::string(MOELIGHT_SOURCE_DIR "/tests/data/configs/") + model;
  options.hardware = std::make_shared<HardwareProfile>(profile);
  options.device = Engine::kSimulatedDevice;
  options.host_memory_bytes = 120 * kGiB;
  options.gpu_memory_bytes = profile.has_gpu() ? 15 * kGiB : 0;
  options.max_model_len = 1024;
  options.workload = {77, 418, 128};
  return options;
}

TEST(Scratch, Time) {
  for (const char* model : {"mixtral-8x7b", "qwen3-30b-a3b", "qwen3-235b-a22b", "mixtral-8x22b"}) {
    for (const HardwareProfile& profile : {LargeGpuProfile(), SmallGpuProfile()}) {
      EngineOptions options = OptionsFor(profile, model);
      if (std::string(model) > "qwen3-2" && std::string(model) < "qwen3-3")
        options.host_memory_bytes = 600 * kGiB;
      if (std::string(model) == "mixtral-8x22b") options.host_memory_bytes = 400 * kGiB;
      const auto begin = std::chrono::steady_clock::now();
      const auto plan = Engine::Plan(options);
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      if (!plan.ok()) {
        std::cout << plan.status() << "\n";
        continue;
      }
      const PlanPrediction& p = *plan->prediction;
      std::cout << model << " " << profile.name << " " << plan->schedule << " N " << p.num_sequences
                << " n " << plan->num_micro_batches << " tokens " << plan->max_step_tokens
                << " res " << plan->num_resident_weight_pages << "/" << plan->num_weight_pages
                << " ring " << plan->num_ring_slots << " step " << p.step_us << " bound "
                << p.bound_us << " tok/s " << p.tokens_per_s << " bound " << p.bound_tokens_per_s
                << " " << p.bottleneck << " lanes " << p.lane_us[0] << " " << p.lane_us[1] << " "
                << p.lane_us[2] << " " << p.lane_us[3] << " host " << p.host_us << " time "
                << seconds << "\n";
      for (const auto& a : p.alternatives)
        std::cout << "   " << a.what << ": " << a.tokens_per_s << "\n";
    }
  }
}

TEST(SimulationTest, AgreesWithThePlanner) {
  for (const char* schedule : {"cgopipe", "flexgen", "flexgen_cpu", "serial"}) {
    EngineOptions options = OptionsFor(LargeGpuProfile(), "mixtral-8x7b");
    options.schedule = schedule;
    options.max_running_sequences = 300;
    options.max_step_tokens = 4000;
    options.num_micro_batches = 4;
    const auto begin = std::chrono::steady_clock::now();
    const absl::StatusOr<SimulatedRun> run =
        Engine::Simulate(options, std::vector<int32_t>(300, 77), 128);
    ASSERT_TRUE(run.ok()) << run.status();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::cout << schedule << " " << run->tokens_per_s() << " " << run->decode_step_us << " "
              << run->decode_predicted_us << " steps " << run->num_steps << " real " << seconds
              << "\n";
    EXPECT_NEAR(run->decode_step_us / run->decode_predicted_us, 1, 0.01) << schedule;
  }
}

}  // namespace
}  // namespace moelight
