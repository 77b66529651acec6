// Goal: whatever the model, the machine, the workload and the policy, a plan that is made is within
// its limits and its steps are proven to compute the model.
#include <algorithm>
#include <bit>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "engine/backend/simulated/simulated_backend.h"
#include "engine/engine_plan.h"
#include "engine/pipeline/plan_validator.h"
#include "engine/pipeline/weight_stream.h"
#include "engine/planner/batch_shape.h"
#include "tests/engine/random_problems.h"

namespace moelight {
namespace {

constexpr int kNumProblems = 10'000 / kRoundsDivisor;

// A layer's experts in about that many pages; what a proof takes grows with their number.
int64_t PageBytesFor(const ModelConfig& config, int64_t num_pages) {
  const int64_t layer_bytes =
      int64_t{config.num_experts} * 3 * config.hidden_size * config.moe_intermediate_size * 2;
  return std::clamp<int64_t>(std::bit_ceil(static_cast<uint64_t>(layer_bytes / num_pages)), 256,
                             1 << 30);
}

// Values for everything that a policy decides, drawn without regard to what fits.
EngineOptions WithRandomPolicy(const ModelConfig& config, EngineOptions options,
                               std::mt19937& random) {
  const auto below = [&random](int n) { return static_cast<int32_t>(random() % n); };
  const absl::Span<const Schedule> schedules = Schedules();
  options.schedule = std::string(schedules[below(static_cast<int>(schedules.size()))].name);
  options.num_micro_batches = 1 + below(6);
  options.expert_coalescing = below(2) == 0 ? "off" : "on";
  options.weight_ring_percent = 100 + below(101);
  options.weight_page_bytes = PageBytesFor(config, 1 + below(32));
  options.max_running_sequences = static_cast<int32_t>(RandomBetween(1, 2000, random));
  options.max_step_tokens =
      options.max_running_sequences + static_cast<int32_t>(RandomBetween(1, 4000, random));
  options.kv_page_tokens = 1 << below(7);
  return options;
}

absl::Status ProveStep(const EnginePlan& plan, const ModelConfig& config, const StepLoad& load) {
  const BatchShape batch = EvenShape(load, plan.cut, config.sliding_window);
  const PlanShape shape =
      PlanShapeFor(batch, plan.cut, config.num_hidden_layers, StreamOf(plan.experts));
  return ValidatePlan(plan.schedule->build(shape), shape);
}

void ExpectSound(const EnginePlan& plan, const PlanningProblem& problem, int round) {
  const EngineOptions& options = problem.options;
  EXPECT_LE(plan.budget.Total(MemoryTier::kHost), options.host_memory_bytes) << round;
  EXPECT_LE(plan.budget.Total(MemoryTier::kGpu), options.gpu_memory_bytes) << round;
  for (const BudgetLine& line : plan.budget.lines()) EXPECT_GE(line.bytes, 0) << line.tag;
  StepLoad load;
  load.num_decode = plan.scheduler.max_running_sequences;
  load.mean_context =
      options.workload.mean_prompt_tokens + options.workload.num_output_tokens / 2.0;
  const absl::Status decode = ProveStep(plan, problem.config, load);
  EXPECT_TRUE(decode.ok()) << "round " << round << ", " << options.schedule << ": " << decode;
  load.num_prompts = 1.5;
  load.prompt_tokens = options.workload.mean_prompt_tokens;
  const absl::Status mixed = ProveStep(plan, problem.config, load);
  EXPECT_TRUE(mixed.ok()) << "round " << round << ", " << options.schedule << ": " << mixed;
}

TEST(PlanPropertyTest, EveryPlanIsWithinLimitsAndValid) {
  std::mt19937 random(22);
  int num_feasible = 0;
  for (int round = 0; round < kNumProblems; ++round) {
    PlanningProblem problem = RandomProblem(RandomSmallModel(random), random);
    problem.options = WithRandomPolicy(problem.config, problem.options, random);
    const SimulatedMachine machine = CreateSimulatedMachine(*problem.options.hardware);
    const absl::StatusOr<EnginePlan> plan =
        MakeEnginePlan(problem.options, problem.config, *machine.device, machine.host.get());
    if (!plan.ok()) {
      EXPECT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted)
          << "round " << round << ": " << plan.status();
      continue;
    }
    ++num_feasible;
    ExpectSound(*plan, problem, round);
    if (HasFailure()) return;
  }
  EXPECT_GE(num_feasible, kNumProblems / 2);
}

}  // namespace
}  // namespace moelight
