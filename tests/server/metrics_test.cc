// Goal: the table in the code and what /metrics shows are the same, and promtool finds nothing to
// complain about.
#include "server/metrics.h"

#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

std::string Text(const Metrics& metrics) {
  return prometheus::TextSerializer().Serialize(metrics.Collect());
}

// A metrics object in which every family has a series.
std::unique_ptr<Metrics> FilledMetrics() {
  auto metrics = std::make_unique<Metrics>("1.2.3");
  PlanPrediction prediction;
  prediction.bottleneck = "h2d";
  prediction.step_us = 3e6;
  metrics->SetEngine({.name = "m", .architecture = "A"}, {.backend = "cuda",
                                                          .schedule = "cgopipe",
                                                          .max_running_sequences = 1345,
                                                          .num_micro_batches = 4,
                                                          .kv_format = "int8",
                                                          .host_memory_pinned = true,
                                                          .probed_h2d_bytes_per_s = 28,
                                                          .memory = {{"host", "weights", 5}},
                                                          .prediction = prediction});
  metrics->OnStep({.wall_us = 1, .predicted_wall_us = 1});
  metrics->SetSource([]() {
    MetricLevels levels;
    levels.certificate_expires_s = 5;
    return levels;
  });
  return metrics;
}

TEST(MetricsTest, EveryFamilyOfTheTableIsShownWithItsLabels) {
  const std::unique_ptr<Metrics> metrics = FilledMetrics();
  std::map<std::string, prometheus::MetricFamily> families;
  for (prometheus::MetricFamily& family : metrics->Collect()) families[family.name] = family;
  EXPECT_EQ(families.size(), Metrics::Rows().size());
  for (const MetricRow& row : Metrics::Rows()) {
    ASSERT_TRUE(families.contains(row.name)) << row.name;
    const prometheus::MetricFamily& family = families[row.name];
    EXPECT_EQ(family.help, row.help);
    ASSERT_FALSE(family.metric.empty()) << row.name;
    std::set<std::string> labels;
    for (const auto& label : family.metric[0].label) labels.insert(label.name);
    EXPECT_EQ(labels, std::set<std::string>(row.labels.begin(), row.labels.end())) << row.name;
  }
}

TEST(MetricsTest, PromtoolAccepts) {
  if (std::system("command -v promtool >/dev/null") != 0) GTEST_SKIP() << "promtool is missing";
  TempFolder folder;
  const std::string file = folder.Write("metrics", Text(*FilledMetrics()));
  const std::string command = absl::StrCat("promtool check metrics < ", file, " 2>&1");
  FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string output(4096, '\0');
  output.resize(fread(output.data(), 1, output.size(), pipe));
  EXPECT_EQ(pclose(pipe), 0) << output;
  EXPECT_EQ(output, "");
}

TEST(MetricsTest, RequestsAndStepsAreCounted) {
  const std::unique_ptr<Metrics> metrics = FilledMetrics();
  GenerateResult good;
  good.choices.emplace_back().finish_reason = FinishReason::kLength;
  metrics->OnRequestFinished(good, {.num_prompt_tokens = 3, .num_generated_tokens = 4});
  GenerateResult failed, cancelled;
  failed.status = absl::InternalError("x");
  cancelled.status = absl::CancelledError("x");
  metrics->OnRequestFinished(failed, {});
  metrics->OnRequestFinished(cancelled, {.num_generated_tokens = 1});
  StepStats step;
  step.step_us = 2e6;
  step.lane_busy_us = {1e6, 0, 5e5, 5e5};
  step.lane_stall_us[0][2] = 3e6;
  step.lane_stall_us[1][1] = 4e6;
  step.h2d_bytes = 7;
  step.transfer_overlapped_us = 2.5e5;
  step.num_preempted_sequences = 2;
  step.num_recomputed_tokens = 30;
  step.num_shared_prompt_tokens = 48;
  metrics->OnStep(step);
  metrics->CountRejected("limit");
  metrics->ObserveJob(5);
  metrics->ObserveCommit(0.001);
  const std::string text = Text(*metrics);
  for (const char* line :
       {"moelight_requests_finished_total{finish_reason=\"length\"} 1",
        "moelight_requests_finished_total{finish_reason=\"error\"} 1",
        "moelight_requests_finished_total{finish_reason=\"cancelled\"} 1",
        "moelight_request_errors_total{code=\"INTERNAL\"} 1", "moelight_prompt_tokens_total 3",
        "moelight_generated_tokens_total 5", "moelight_request_e2e_seconds_count 3",
        "moelight_step_seconds_sum 2", "moelight_lane_busy_seconds_total{lane=\"h2d\"} 0.5",
        "moelight_lane_stall_seconds_total{cause=\"h2d\",lane=\"gpu\"} 3",
        "moelight_lane_stall_seconds_total{cause=\"launch\",lane=\"cpu\"} 4",
        "moelight_transfer_bytes_total{direction=\"h2d\"} 7", "moelight_io_overlap_ratio 0.25",
        // 7 bytes in half a second, of 28 a second.
        "moelight_link_bandwidth_ratio 0.5", "moelight_link_probed_bytes_per_second 28",
        "moelight_transfer_overlapped_seconds_total 0.25", "moelight_host_memory_pinned 1",
        "moelight_admission_rejected_total{reason=\"limit\"} 1",
        "moelight_preempted_sequences_total 2", "moelight_recomputed_tokens_total 30",
        "moelight_shared_prompt_tokens_total 48", "moelight_job_duration_seconds_count 1",
        "moelight_store_commit_seconds_count 1",
        "moelight_memory_bytes{tag=\"weights\",tier=\"host\"} 5"}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat(line, "\n")));
  }
}

TEST(MetricsTest, WithoutAProbedRateThereIsNoRatioToIt) {
  Metrics metrics("1.2.3");
  metrics.SetEngine({.name = "m", .architecture = "A"},
                    {.backend = "cpu", .schedule = "serial", .kv_format = "bf16", .memory = {}});
  StepStats step;
  step.lane_busy_us = {0, 0, 1, 0};
  step.h2d_bytes = 1;
  metrics.OnStep(step);
  EXPECT_THAT(Text(metrics), testing::Not(HasSubstr("moelight_link_bandwidth_ratio ")));
  EXPECT_THAT(Text(metrics), HasSubstr("moelight_host_memory_pinned 0\n"));
}

TEST(MetricsTest, ThePlanIsShownWithItsPrediction) {
  const std::string text = Text(*FilledMetrics());
  EXPECT_THAT(text, HasSubstr("moelight_plan_info{backend=\"cuda\",bottleneck=\"h2d\","
                              "kv_format=\"int8\",max_running_sequences=\"1345\","
                              "num_micro_batches=\"4\",schedule=\"cgopipe\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("moelight_plan_predicted_step_seconds 3\n"));
}

TEST(MetricsTest, WithoutAHardwareProfileNothingIsPredicted) {
  Metrics metrics("1.2.3");
  metrics.SetEngine({.name = "m", .architecture = "A"},
                    {.backend = "cpu", .schedule = "serial", .kv_format = "bf16", .memory = {}});
  metrics.OnStep({.wall_us = 1000, .predicted_wall_us = 0});
  const std::string text = Text(metrics);
  EXPECT_THAT(text, HasSubstr("bottleneck=\"unknown\""));
  EXPECT_THAT(text, testing::Not(HasSubstr("moelight_plan_predicted_step_seconds ")));
  EXPECT_THAT(text, testing::Not(HasSubstr("moelight_step_prediction_error_ratio ")));
}

TEST(MetricsTest, ThePredictionErrorFollowsTheLastSteps) {
  Metrics metrics("1.2.3");
  const auto error_after = [&metrics](int num_steps, double predicted_us) {
    for (int i = 0; i < num_steps; ++i) {
      metrics.OnStep({.wall_us = 1000, .predicted_wall_us = predicted_us});
    }
    const std::string text = Text(metrics);
    const std::string name = "\nmoelight_step_prediction_error_ratio ";
    return std::stod(text.substr(text.find(name) + name.size()));
  };
  EXPECT_NEAR(error_after(1, 1250), 0.25, 1e-9);
  EXPECT_NEAR(error_after(10, 1250), 0.25, 1e-9);
  const double after_one = error_after(1, 500);
  EXPECT_GT(after_one, -0.5);
  EXPECT_LT(after_one, 0.25);
  EXPECT_LT(error_after(1, 500), after_one);
  EXPECT_NEAR(error_after(2000, 500), -0.5, 1e-6) << "old steps are forgotten";
  // Steps for which nothing was predicted say nothing about predictions.
  EXPECT_NEAR(error_after(100, 0), -0.5, 1e-6);
}

TEST(MetricsTest, LevelsAreReadAtTheScrape) {
  const std::unique_ptr<Metrics> metrics = FilledMetrics();
  MetricLevels levels;
  levels.store.queued_rows = 3;
  levels.store.jobs_by_state = {{v1::BatchJob::STATE_RUNNING, 2}};
  levels.resident_memory_bytes = 5;
  levels.store_disk_free_bytes = 6;
  metrics->SetSource([&levels]() { return levels; });
  EXPECT_THAT(Text(*metrics), HasSubstr("moelight_queue_depth 3\n"));
  EXPECT_THAT(Text(*metrics), HasSubstr("moelight_ready 0\n"));
  EXPECT_THAT(Text(*metrics), HasSubstr("moelight_resident_memory_bytes 5\n"));
  EXPECT_THAT(Text(*metrics), HasSubstr("moelight_store_disk_free_bytes 6\n"));
  levels.is_serving = true;
  EXPECT_THAT(Text(*metrics), HasSubstr("moelight_ready 1\n"));
  levels.engine = EngineStats{.num_running = 4, .num_kv_pages_used = 1, .num_kv_pages = 4};
  EXPECT_THAT(Text(*metrics), HasSubstr("moelight_kv_cache_usage_ratio 0.25\n"));
  EXPECT_THAT(Text(*metrics), HasSubstr("moelight_jobs{state=\"running\"} 2\n"));
  metrics->SetSource(nullptr);
  EXPECT_THAT(Text(*metrics), HasSubstr("moelight_running_sequences 4\n"));
}

TEST(MetricsTest, BusyAddressIsAnError) {
  const std::shared_ptr<Metrics> metrics = FilledMetrics();
  const auto first = ServeMetrics("127.0.0.1:0", metrics);
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = absl::StrCat("127.0.0.1:", (*first)->GetListeningPorts()[0]);
  EXPECT_TRUE(absl::IsUnavailable(ServeMetrics(address, metrics).status()));
}

using DaemonMetricsTest = DaemonTest;

TEST_F(DaemonMetricsTest, JobsLeaveTheirTraces) {
  config().metrics_listen = "127.0.0.1:0";
  StartDaemon();
  EXPECT_GT(daemon().metrics_port(), 0);
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(job_id, 0, {TextRow("", "x"), TextRow("", "")}, &appended).ok());
  ASSERT_TRUE(Seal(job_id).ok());
  EXPECT_EQ(Results(job_id).size(), 2);
  const std::string text = Text(daemon().metrics());
  EXPECT_THAT(text, HasSubstr("moelight_jobs{state=\"succeeded\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("moelight_admission_rejected_total{reason=\"invalid\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("moelight_job_duration_seconds_count 1\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("moelight_store_commit_seconds_count 0\n")));
  EXPECT_THAT(text, testing::Not(HasSubstr(job_id)));
}

}  // namespace
}  // namespace moelight
