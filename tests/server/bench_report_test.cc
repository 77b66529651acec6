// Goal: the figures of a run are those worked out by hand from its steps.
#include "server/bench_report.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/bench_recorder.h"

namespace moelight {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;

constexpr int kGpu = static_cast<int>(Lane::kGpu);
constexpr int kCpu = static_cast<int>(Lane::kCpu);
constexpr int kH2d = static_cast<int>(Lane::kHostToDevice);
constexpr int kD2h = static_cast<int>(Lane::kDeviceToHost);

BenchStep Step(int32_t num_sequences, int32_t num_prefill_tokens, double step_us) {
  BenchStep step;
  // One in ten still has its prompt before it.
  step.stats.num_sequences = num_sequences;
  step.stats.num_generated_tokens = num_sequences - num_sequences / 10;
  step.stats.num_prefill_tokens = num_prefill_tokens;
  step.stats.step_us = step_us;
  step.wall_seconds = 2 * step_us / 1e6;  // as if the engine spent as long between steps
  return step;
}

// A ramp, three steps with a full batch, of which one has prompts, and the end.
std::vector<BenchStep> Steps() {
  std::vector<BenchStep> steps = {Step(10, 500, 1e6), Step(100, 300, 2e6), Step(96, 0, 3e6),
                                  Step(100, 0, 1e6), Step(50, 0, 1e6)};
  for (BenchStep& step : steps) {
    StepStats& stats = step.stats;
    stats.lane_busy_us[kGpu] = 0.25 * stats.step_us;
    stats.lane_busy_us[kCpu] = 0.5 * stats.step_us;
    stats.lane_busy_us[kH2d] = 0.8 * stats.step_us;
    stats.lane_busy_us[kD2h] = 0.2 * stats.step_us;
    stats.lane_stall_us[kGpu][kH2d] = 0.75 * stats.step_us;
    stats.lane_stall_us[kCpu][kCpu] = 0.1 * stats.step_us;
    stats.h2d_bytes = static_cast<int64_t>(8000 * stats.step_us / 1e6);
    stats.d2h_bytes = static_cast<int64_t>(100 * stats.step_us / 1e6);
    stats.transfer_overlapped_us = 0.5 * stats.step_us;
    stats.compute_overlapped_us = 0.6 * stats.step_us;
    stats.num_preempted_sequences = 1;
    stats.num_recomputed_tokens = 20;
    stats.num_shared_prompt_tokens = 300;
    step.kv_page_share = stats.num_sequences / 125.0;
  }
  return steps;
}

BenchRun MakeRun() {
  BenchRun run;
  run.workload = "mtbench";
  run.lengths = "geometric";
  run.num_shared_prefix_tokens = 64;
  run.num_requests = 4;
  run.num_succeeded = 4;
  run.seconds = 16;
  run.num_generated_tokens = 321;
  run.num_prompt_tokens = 800;
  run.model.name = "m";
  run.plan.backend = "cuda (\"x\")";
  run.plan.schedule = "cgopipe";
  run.plan.memory = {{"host", "weights", 5}, {"host", "kv_cache", 7}, {"gpu", "weights", 1}};
  run.expert_shares = {0.5, 0.2, 0.3, 0};
  run.link.emplace();
  run.link->rows = {
      {1 << 20, 9000, 900, 9900}, {16 << 20, 12500, 1000, 13000}, {64 << 20, 20000, 2000, 22000}};
  run.steps = Steps();
  return run;
}

TEST(BenchSummaryTest, WindowsHoldTheirSteps) {
  const std::vector<BenchStep> steps = Steps();
  const BenchSummary whole = SummarizeSteps(steps, BenchWindow::kWholeRun);
  EXPECT_EQ(whole.num_steps, 5);
  EXPECT_EQ(whole.num_generated_tokens, 9 + 90 + 87 + 90 + 45) << "not of unfinished prompts";
  EXPECT_EQ(whole.num_sequences, 356);
  EXPECT_EQ(whole.num_preempted_sequences, 5);
  EXPECT_EQ(whole.num_recomputed_tokens, 100);
  EXPECT_EQ(whole.num_shared_prompt_tokens, 1500);
  EXPECT_EQ(whole.num_prompt_tokens, 800);
  const BenchSummary steady = SummarizeSteps(steps, BenchWindow::kSteady);
  EXPECT_EQ(steady.num_steps, 3);
  EXPECT_EQ(steady.num_generated_tokens, 267);
  EXPECT_DOUBLE_EQ(steady.kv_page_share_mean, 296 / 3.0 / 125);
  EXPECT_DOUBLE_EQ(steady.step_us_mean, 2e6);
  EXPECT_DOUBLE_EQ(steady.step_us_p50, 2e6);
  EXPECT_DOUBLE_EQ(steady.step_us_p95, 3e6);
  const BenchSummary decode = SummarizeSteps(steps, BenchWindow::kDecodeSteady);
  EXPECT_EQ(decode.num_steps, 2);
  EXPECT_DOUBLE_EQ(decode.wall_seconds, 8);
  EXPECT_DOUBLE_EQ(decode.step_seconds, 4);
  EXPECT_EQ(SummarizeSteps({}, BenchWindow::kSteady).num_steps, 0);
}

TEST(BenchRecorderTest, FullStepsAreCountedSinceThePeak) {
  BenchRecorder recorder;
  std::vector<int64_t> seen;
  double share = 0;
  recorder.Begin(
      [&share]() { return share += 0.125; },
      [&seen](const BenchRecorder::Totals& totals) { seen.push_back(totals.num_full_steps); });
  for (const int32_t num_sequences : {10, 100, 95, 94, 100, 101, 101}) {
    StepStats stats;
    stats.num_sequences = num_sequences;
    stats.num_generated_tokens = num_sequences - 1;
    if (num_sequences == 101) recorder.EndSampling();
    recorder.OnStep(stats);
  }
  EXPECT_THAT(seen, ::testing::ElementsAre(1, 1, 2, 2, 3, 1, 2));
  EXPECT_EQ(recorder.totals().num_steps, 7);
  EXPECT_EQ(recorder.totals().peak_sequences, 101);
  EXPECT_EQ(recorder.totals().num_generated_tokens, 594);
  ASSERT_EQ(recorder.steps().size(), 7u);
  EXPECT_EQ(recorder.steps()[4].kv_page_share, 0.625);
  EXPECT_EQ(recorder.steps()[5].kv_page_share, 0) << "not sampled any more";
}

TEST(BenchReportTest, JsonHasEveryFigure) {
  // Through text, as whoever reads it gets it.
  const ordered_json json = ordered_json::parse(BenchRunToJson(MakeRun()).dump());
  EXPECT_EQ(json["workload"], "mtbench");
  EXPECT_EQ(json["peak_sequences"], 100);
  EXPECT_EQ(json["lengths"], "geometric");
  EXPECT_EQ(json["shared_prefix_tokens"], 64);
  EXPECT_DOUBLE_EQ(json["generated_tokens_per_s"], 321.0 / 16);
  EXPECT_DOUBLE_EQ(json["prompt_tokens_per_s"], 50);
  const ordered_json& decode = json["decode_steady"];
  EXPECT_EQ(decode["steps"], 2);
  EXPECT_DOUBLE_EQ(decode["generated_tokens_per_s"], 177.0 / 8);
  EXPECT_DOUBLE_EQ(decode["sequences"], 98);
  EXPECT_DOUBLE_EQ(decode["kv_page_share"], 98 / 125.0);
  EXPECT_EQ(json["whole_run"]["preempted_sequences"], 5);
  EXPECT_EQ(json["whole_run"]["recomputed_tokens"], 100);
  EXPECT_EQ(json["whole_run"]["shared_prompt_tokens"], 1500);
  EXPECT_DOUBLE_EQ(decode["lanes"]["gpu"]["busy_share"], 0.25);
  EXPECT_DOUBLE_EQ(decode["lanes"]["gpu"]["stall_us_per_step"]["h2d"], 1.5e6);
  EXPECT_DOUBLE_EQ(decode["lanes"]["cpu"]["stall_us_per_step"]["launch"], 2e5);
  EXPECT_EQ(decode["h2d"]["bytes"], 32000);
  EXPECT_DOUBLE_EQ(decode["h2d"]["bytes_per_s"], 8000);
  EXPECT_DOUBLE_EQ(decode["h2d"]["bytes_per_s_while_busy"], 10000);
  EXPECT_DOUBLE_EQ(decode["h2d"]["ratio_to_probed"], 0.8);
  EXPECT_DOUBLE_EQ(decode["d2h"]["ratio_to_probed"], 0.5);
  EXPECT_DOUBLE_EQ(decode["io_overlap_ratio"], 0.5);
  EXPECT_DOUBLE_EQ(decode["compute_overlap_ratio"], 0.8);
  EXPECT_DOUBLE_EQ(decode["bounds_us_per_step"]["link"], 1.6e6);
  EXPECT_DOUBLE_EQ(decode["bounds_us_per_step"]["cpu"], 1e6);
  EXPECT_DOUBLE_EQ(decode["bounds_us_per_step"]["gpu"], 5e5);
  EXPECT_DOUBLE_EQ(decode["step_to_longest_bound_ratio"], 1.25);
  // 32000 bytes at 12500 a second are 2.56 s for 177 tokens; the 8 s that they took, 32 % of that.
  EXPECT_DOUBLE_EQ(decode["link_roof"]["generated_tokens_per_s"], 177 / 2.56);
  EXPECT_DOUBLE_EQ(decode["link_roof"]["reached_ratio"], 0.32);
  EXPECT_EQ(json["link"]["rows"].size(), 3u);
  EXPECT_EQ(json["link"]["rows"][2]["copy_bytes"], 64 << 20);
  EXPECT_DOUBLE_EQ(json["experts"]["min_ratio_to_even"], 0);
  EXPECT_DOUBLE_EQ(json["experts"]["max_ratio_to_even"], 2);
  EXPECT_EQ(json["plan"]["backend"], "cuda (\"x\")");
  EXPECT_EQ(json["memory"],
            (ordered_json{{"host", {{"weights", 5}, {"kv_cache", 7}, {"total", 12}}},
                          {"gpu", {{"weights", 1}, {"total", 1}}}}));
}

TEST(BenchReportTest, WhatWasNotMeasuredIsNull) {
  BenchRun run = MakeRun();
  run.link.reset();
  run.expert_shares.clear();
  run.steps.clear();
  const ordered_json json = ordered_json::parse(BenchRunToJson(run).dump());
  for (const char* key : {"link", "experts", "steady", "decode_steady", "whole_run"}) {
    EXPECT_TRUE(json[key].is_null()) << key;
  }
  run.steps = Steps();
  const ordered_json window = BenchRunToJson(run)["steady"];
  EXPECT_FALSE(window["h2d"].contains("ratio_to_probed"));
  EXPECT_FALSE(window.contains("link_roof"));
}

TEST(BenchReportTest, PredictionsStandBesideWhatWasMeasured) {
  BenchRun run = MakeRun();
  EXPECT_FALSE(BenchRunToJson(run)["decode_steady"].contains("prediction")) << "no profile";
  for (BenchStep& step : run.steps) {
    step.stats.wall_us = 1.25 * step.stats.step_us;
    step.stats.predicted_wall_us = step.stats.step_us;
    step.stats.predicted_lane_us[kH2d] = 0.75 * step.stats.step_us;
  }
  // Two steps of 3 and 1 s.
  const ordered_json prediction = BenchRunToJson(run)["decode_steady"]["prediction"];
  EXPECT_DOUBLE_EQ(prediction["measured_us_per_step"], 2.5e6);
  EXPECT_DOUBLE_EQ(prediction["predicted_us_per_step"], 2e6);
  EXPECT_DOUBLE_EQ(prediction["error_ratio"], -0.2);
  EXPECT_DOUBLE_EQ(prediction["predicted_busy_us_per_step"]["h2d"], 1.5e6);
  EXPECT_DOUBLE_EQ(prediction["predicted_busy_us_per_step"]["gpu"], 0);
}

TEST(BenchReportTest, SummaryStatesTheRoofs) {
  const std::string summary = BenchRunSummary(MakeRun());
  EXPECT_THAT(summary, HasSubstr("mtbench: 4 of 4 requests, 321 generated and 800 prompt tokens in "
                                 "16.00 s, 20.1 generated tok/s"));
  EXPECT_THAT(summary, HasSubstr("decode only  22.1 generated tok/s"));
  EXPECT_THAT(summary,
              HasSubstr("98.7 sequences and 78.9 % of the KV pages in full steps; 5 "
                        "preempted, 100 tokens computed again, 1500 prompt tokens shared"));
  EXPECT_THAT(summary, HasSubstr("80.0 % of the probed"));
  EXPECT_THAT(summary, HasSubstr("roof 69.1 tok/s, reached 32.0 %"));
  EXPECT_THAT(summary, HasSubstr("a step takes 1.250 of the longest"));
  EXPECT_THAT(summary, HasSubstr("shares 0.000 to 2.000 of even"));
  BenchRun empty;
  EXPECT_THAT(BenchRunSummary(empty), HasSubstr("no such steps"));
  EXPECT_THAT(LinkRatesTable(*MakeRun().link), HasSubstr("16384"));
}

}  // namespace
}  // namespace moelight
