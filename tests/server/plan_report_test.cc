// Goal: the table of a plan has every section and the plan's figures in units that people read, and
// says so where nothing can be predicted.
#include "server/plan_report.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kGiB = int64_t{1} << 30;

ModelInfo Mixtral() {
  return {.name = "mixtral-8x7b",
          .architecture = "MixtralForCausalLM",
          .num_parameters = 46'700'000'000,
          .num_active_parameters = 12'900'000'000};
}

PlanInfo PlanOnTheCpu() {
  PlanInfo plan;
  plan.backend = "cpu (avx2, 3 threads)";
  plan.schedule = "serial";
  plan.max_running_sequences = 256;
  plan.max_step_tokens = 2048;
  plan.num_micro_batches = 1;
  plan.kv_format = "bf16";
  plan.kv_page_tokens = 16;
  plan.num_kv_pages = 1000;
  plan.memory = {{"host", "weights", 3 * kGiB}, {"host", "kv_cache", kGiB / 2}};
  return plan;
}

PlanInfo PlanOnAGpu() {
  PlanInfo plan = PlanOnTheCpu();
  plan.backend = "cuda (x)";
  plan.schedule = "cgopipe";
  plan.weight_page_bytes = 16 << 20;
  plan.num_weight_pages = 5376;
  plan.num_resident_weight_pages = 1344;
  plan.num_ring_slots = 252;
  plan.memory.push_back({"gpu", "experts", 8 * kGiB});
  plan.memory.push_back({"gpu", "weights", 2 * kGiB});
  PlanPrediction& prediction = plan.prediction.emplace();
  prediction.hardware = "1x H200";
  prediction.workload = {77, 418, 128};
  prediction.num_sequences = 1345;
  prediction.step_us = 2e6;
  prediction.lane_us = {5e5, 8e5, 1.9e6, 1e5};
  prediction.host_us = 12'340;
  prediction.bottleneck = "h2d";
  prediction.bound_us = 1.9e6;
  prediction.tokens_per_s = 600;
  prediction.bound_tokens_per_s = 800;
  prediction.joules_per_token = 0.125;
  prediction.alternatives = {{"twice the link", 900, false}, {"engine.kv_format: int8", 300, true}};
  prediction.tensors = {{"experts, resident", "gpu", 6 * kGiB},
                        {"keys and values", "host", 90 * kGiB}};
  return plan;
}

TEST(PlanReportTest, WithoutAProfileThereAreModelPolicyAndMemory) {
  const std::string table = PlanTable(Mixtral(), PlanOnTheCpu());
  EXPECT_EQ(table,
            "model    mixtral-8x7b (MixtralForCausalLM), 46.7 billion parameters, 12.9 active\n"
            "backend  cpu (avx2, 3 threads)\n"
            "\n"
            "policy\n"
            "  schedule              serial\n"
            "  running sequences     256 at most\n"
            "  micro-batches         1\n"
            "  tokens of a step      2048 at most\n"
            "  KV cache              bf16, 1000 pages of 16 tokens\n"
            "\n"
            "memory\n"
            "  host       3.00 GiB  weights\n"
            "  host       0.50 GiB  kv_cache\n"
            "  host       3.50 GiB  in all\n"
            "\n"
            "nothing is predicted: no profile of this hardware is known (moelightd probe)\n");
}

TEST(PlanReportTest, WithAProfileEveryFigureHasItsLine) {
  const std::string table = PlanTable(Mixtral(), PlanOnAGpu());
  for (const char* lines :
       {"  experts               5376 pages of 16 MiB: 1344 resident on the GPU (25.0 %), 252 "
        "slots for the others\n",
        "\nwhat lies where\n"
        "  gpu        6.00 GiB  experts, resident\n"
        "  host      90.00 GiB  keys and values\n",
        "  gpu       10.00 GiB  in all\n"
        "  host       3.50 GiB  in all\n",
        "\na decode step of 1345 sequences on 1x H200\n"
        "  step        2000.00 ms\n"
        "  gpu          500.00 ms   25.0 % busy\n"
        "  cpu          800.00 ms   40.0 % busy\n"
        "  h2d         1900.00 ms   95.0 % busy\n"
        "  d2h          100.00 ms    5.0 % busy\n"
        "  sampling      12.34 ms\n"
        "  bound by h2d, which alone would take 1900.00 ms: the step is at 95.0 % of its bound\n",
        "\nthroughput with prompts of 77 tokens (at most 418) and answers of 128\n"
        "       600.0 tok/s generated over a long job, prompts included\n"
        "       800.0 tok/s if nothing ever waited while decoding (75.0 % reached)\n"
        "       0.125 joules a token\n",
        "\nwhat else would bring\n"
        "       900.0 tok/s   +50.0 %  twice the link\n"
        "       300.0 tok/s   -50.0 %  engine.kv_format: int8 (a setting)\n"}) {
    EXPECT_THAT(table, HasSubstr(lines));
  }
  EXPECT_THAT(table, Not(HasSubstr("nothing is predicted")));
}

TEST(PlanReportTest, JoulesThatAreNotKnownAreLeftOut) {
  PlanInfo plan = PlanOnAGpu();
  plan.prediction->joules_per_token = 0;
  EXPECT_THAT(PlanTable(Mixtral(), plan), Not(HasSubstr("joules")));
}

TEST(PlanReportTest, AnEmptyPlanDividesByNothing) {
  PlanInfo plan;
  plan.prediction.emplace();
  const std::string table = PlanTable({}, plan);
  EXPECT_THAT(table, Not(HasSubstr("nan")));
  EXPECT_THAT(table, Not(HasSubstr("inf")));
  EXPECT_THAT(SimulationLine({}), HasSubstr("simulated: 0.0 tok/s"));
}

TEST(PlanReportTest, ASimulationIsOneLine) {
  SimulatedRun run;
  run.seconds = 4;
  run.num_steps = 130;
  run.num_generated_tokens = 1000;
  run.num_prompt_tokens = 770;
  run.peak_sequences = 8;
  run.decode_step_us = 30'500;
  EXPECT_THAT(SimulationLine(run),
              EndsWith("simulated: 250.0 tok/s, 1000 generated and 770 prompt tokens in 4.0 s of "
                       "130 steps, 8 sequences at most; decode step 30.50 ms\n"));
}

}  // namespace
}  // namespace moelight
