// Goal: a trace is JSON that viewers read, has every task of the steps asked for once, and says
// what it left out.
#include "engine/pipeline/trace.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moelight {
namespace {

using nlohmann::json;

Task MakeTask(TaskKind kind, int32_t layer, int32_t micro_batch, int32_t part) {
  Task task{.kind = kind, .after = {}};
  task.layer = layer;
  task.micro_batch = micro_batch;
  task.part = part;
  return task;
}

StepPlan TwoTasks() {
  StepPlan plan;
  plan.tasks = {MakeTask(TaskKind::kLoadWeights, 1, 0, 2), MakeTask(TaskKind::kPostAttn, 1, 3, 0)};
  return plan;
}

json StopAndParse(TraceRecorder& recorder) {
  const absl::StatusOr<std::string> text = recorder.Stop();
  EXPECT_TRUE(text.ok()) << text.status();
  json trace = json::parse(text.value_or(""), nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(trace.is_discarded()) << text.value_or("");
  return trace;
}

std::vector<json> Spans(const json& trace) {
  std::vector<json> spans;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "X") spans.push_back(event);
  }
  return spans;
}

TEST(TraceTest, SpansCarryLaneTimeAndPlaceInTheStep) {
  TraceRecorder recorder;
  recorder.Start(2);
  recorder.RecordStep(TwoTasks(), {{1000.5, 1010.5}, {1000, 1250.25}});
  recorder.RecordStep(TwoTasks(), {{2000, 2001}, {2001, 2002}});
  const json trace = StopAndParse(recorder);
  const std::vector<json> spans = Spans(trace);
  ASSERT_EQ(spans.size(), 4u);
  EXPECT_EQ(spans[0]["name"], "load_weights");
  EXPECT_EQ(spans[0]["args"], (json{{"step", 0}, {"layer", 1}, {"micro_batch", 0}, {"part", 2}}));
  EXPECT_EQ(spans[1]["args"], (json{{"step", 0}, {"layer", 1}, {"micro_batch", 3}, {"part", 0}}));
  EXPECT_EQ(spans[2]["args"]["step"], 1);
  // Time starts with the earliest span, which need not be the first of the plan.
  EXPECT_DOUBLE_EQ(spans[0]["ts"], 0.5);
  EXPECT_DOUBLE_EQ(spans[0]["dur"], 10);
  EXPECT_DOUBLE_EQ(spans[1]["ts"], 0);
  EXPECT_DOUBLE_EQ(spans[1]["dur"], 250.25);
  EXPECT_DOUBLE_EQ(spans[3]["ts"], 1001);

  std::map<int, std::string> tracks;
  for (const json& event : trace["traceEvents"]) {
    if (event["name"] == "thread_name") tracks[event["tid"]] = event["args"]["name"];
    EXPECT_EQ(event["pid"], 1);
  }
  EXPECT_EQ(tracks.size(), static_cast<size_t>(kNumLanes));
  EXPECT_EQ(tracks[spans[0]["tid"]], "h2d");
  EXPECT_EQ(tracks[spans[1]["tid"]], "gpu");
  EXPECT_EQ(trace["otherData"]["num_steps"], 2);
  EXPECT_EQ(trace["otherData"]["num_dropped"], 0);
}

// Measured beside predicted, as a curve over time. A step that nothing was predicted for has none.
TEST(TraceTest, PredictedStepsHaveACounter) {
  StepPlan plan = TwoTasks();
  plan.num_head_tasks = 1;  // the load ran before the step began
  TraceRecorder recorder;
  recorder.Start(3);
  recorder.RecordStep(plan, {{1000, 1010}, {1005, 1050}}, {60.5, 50.25});
  recorder.RecordStep(plan, {{1900, 2010}, {2005, 2050}}, {70, 0});
  recorder.RecordStep(plan, {{2900, 3010}, {3005, 3050}}, {80, 75});
  const json trace = StopAndParse(recorder);
  std::vector<json> counters;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "C") counters.push_back(event);
  }
  ASSERT_EQ(counters.size(), 2u);
  for (const json& counter : counters) {
    EXPECT_EQ(counter["name"], "step_us");
    EXPECT_EQ(counter["pid"], 1);
  }
  EXPECT_DOUBLE_EQ(counters[0]["ts"], 5);
  EXPECT_EQ(counters[0]["args"], (json{{"measured", 60.5}, {"predicted", 50.25}}));
  EXPECT_DOUBLE_EQ(counters[1]["ts"], 2005);
  EXPECT_EQ(counters[1]["args"], (json{{"measured", 80.0}, {"predicted", 75.0}}));
}

TEST(TraceTest, RecordsNoMoreStepsThanAskedFor) {
  TraceRecorder recorder;
  recorder.RecordStep(TwoTasks(), {{0, 1}, {1, 2}});
  recorder.Start(1);
  recorder.RecordStep(TwoTasks(), {{5, 6}, {6, 7}});
  recorder.RecordStep(TwoTasks(), {{8, 9}, {9, 10}});
  const std::vector<json> spans = Spans(StopAndParse(recorder));
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_DOUBLE_EQ(spans[1]["ts"], 1);
}

TEST(TraceTest, WorkIssuedAheadBelongsToTheNextStep) {
  StepPlan plan = TwoTasks();
  plan.tasks.push_back(MakeTask(TaskKind::kLoadWeights, 0, 0, 0));
  plan.tasks.back().ahead = true;
  TraceRecorder recorder;
  recorder.Start(1);
  recorder.RecordStep(plan, {{5, 6}, {6, 7}, {0, 0}});
  EXPECT_EQ(Spans(StopAndParse(recorder)).size(), 2u);
}

TEST(TraceTest, AnEmptyTraceIsJsonToo) {
  TraceRecorder recorder;
  recorder.Start(5);
  const json trace = StopAndParse(recorder);
  EXPECT_TRUE(Spans(trace).empty());
  EXPECT_EQ(trace["otherData"]["num_steps"], 0);
}

TEST(TraceTest, OnlyAStartedTraceCanBeStopped) {
  TraceRecorder recorder;
  EXPECT_TRUE(absl::IsFailedPrecondition(recorder.Stop().status()));
  recorder.Start(1);
  EXPECT_TRUE(recorder.Stop().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(recorder.Stop().status()));
}

TEST(TraceTest, ANewTraceReplacesTheOldOne) {
  TraceRecorder recorder;
  recorder.Start(5);
  recorder.RecordStep(TwoTasks(), {{0, 1}, {1, 2}});
  recorder.Start(5);
  recorder.RecordStep(TwoTasks(), {{3, 4}, {4, 5}});
  EXPECT_EQ(Spans(StopAndParse(recorder)).size(), 2u);
}

TEST(TraceTest, SpansPastTheLimitAreCounted) {
  StepPlan plan;
  plan.tasks.resize(TraceRecorder::kMaxSpans / 2 + 3, MakeTask(TaskKind::kPreAttn, 0, 0, 0));
  const std::vector<TaskTiming> timings(plan.tasks.size(), {1, 2});
  TraceRecorder recorder;
  recorder.Start(2);
  recorder.RecordStep(plan, timings);
  recorder.RecordStep(plan, timings);
  const absl::StatusOr<std::string> text = recorder.Stop();
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_NE(text->find("\"num_dropped\":6}"), std::string::npos);
  EXPECT_LE(text->size(), size_t{80} << 20);
}

}  // namespace
}  // namespace moelight
