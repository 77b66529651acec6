// Goal: the executor runs tasks in order with every cross-lane edge waited for, and its books of
// busy, stalled and overlapped time are right on a timeline that was worked out by hand.
#include "engine/pipeline/executor.h"

#include <map>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

// A backend without ops, whose streams run on a clock that the test sets per task.
class ScriptedStream : public Stream {
 public:
  ScriptedStream(Lane lane, const std::vector<TaskTiming>* script, std::vector<std::string>* log)
      : lane_(lane), script_(script), log_(log) {}
  void BeginStep(int) override {}
  void BeginAhead(int) override {}
  void EndAhead() override {}
  void BeginTask(int task) override { log_->push_back(absl::StrCat(LaneName(lane_), ":", task)); }
  void EndTask(int) override {}
  absl::Status WaitFor(const Stream& other, int task) override {
    const auto& stream = static_cast<const ScriptedStream&>(other);
    log_->push_back(
        absl::StrCat(LaneName(lane_), " waits for ", LaneName(stream.lane_), ":", task));
    return absl::OkStatus();
  }
  absl::Status RunOnHost(std::function<absl::Status()> work) override { return work(); }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  TaskTiming timing(int task) const override { return (*script_)[task]; }

 private:
  const Lane lane_;
  const std::vector<TaskTiming>* script_;
  std::vector<std::string>* log_;
};

class ScriptedBackend : public Backend {
 public:
  explicit ScriptedBackend(std::vector<TaskTiming> script) : script_(std::move(script)) {}
  std::unique_ptr<Stream> CreateStream(Lane lane) override {
    return std::make_unique<ScriptedStream>(lane, &script_, &log);
  }
  absl::string_view name() const override { return "scripted"; }
  std::string description() const override { return "scripted"; }
  DType activation_dtype() const override { return DType::kF32; }
  DType kv_dtype() const override { return DType::kF32; }
  DType embedding_dtype() const override { return DType::kF32; }
  const WeightFormat& weight_format() const override { return format_; }
  int64_t scratch_bytes(const OpLimits&) const override { return 0; }
  absl::Status Reserve(const OpLimits&) override { return absl::OkStatus(); }
  absl::Status Embed(const EmbedArgs&, Stream&) override { return Unused(); }
  absl::Status RmsNorm(const RmsNormArgs&, Stream&) override { return Unused(); }
  absl::Status MatMul(const MatMulArgs&, Stream&) override { return Unused(); }
  absl::Status QkNormRope(const QkNormRopeArgs&, Stream&) override { return Unused(); }
  absl::Status Attention(const AttentionArgs&, Stream&) override { return Unused(); }
  absl::Status Router(const RouterArgs&, Stream&) override { return Unused(); }
  absl::Status MoeFfn(const MoeFfnArgs&, Stream&) override { return Unused(); }
  absl::Status DenseFfn(const DenseFfnArgs&, Stream&) override { return Unused(); }
  absl::Status GatherRows(const GatherRowsArgs&, Stream&) override { return Unused(); }
  absl::Status Copy(const TensorView&, const TensorView&, Stream&) override { return Unused(); }
  absl::Status CopyPages(const CopyPagesArgs&, Stream&) override { return Unused(); }

  std::vector<std::string> log;

 private:
  static absl::Status Unused() { return absl::InternalError("no op was expected"); }
  const std::vector<TaskTiming> script_;
  const WeightFormat format_ = {};
};

class CountingRunner : public TaskRunner {
 public:
  absl::Status Run(const Task& task, Stream&) override {
    ++num_runs;
    return task.kind == fail_on ? absl::DataLossError("broken") : absl::OkStatus();
  }
  int num_runs = 0;
  std::optional<TaskKind> fail_on;
};

Task MakeTask(TaskKind kind, std::initializer_list<int32_t> after) {
  return Task{kind, 0, 0, 0, false, std::vector<int32_t>(after)};
}

// One layer of two micro-batches, cut short:   us  0    10   20   30   40
//   gpu  pre(0) 0-10, pre(1) 10-18, post(0) 30-40
//   d2h  offload(0) 10-16
//   cpu  attn(0) 16-24
//   h2d  load(0) 24-30, while nothing computes
StepPlan HandMadePlan() {
  StepPlan plan;
  plan.tasks = {MakeTask(TaskKind::kPreAttn, {}),     MakeTask(TaskKind::kOffloadQkv, {0}),
                MakeTask(TaskKind::kPreAttn, {}),     MakeTask(TaskKind::kAttn, {1}),
                MakeTask(TaskKind::kLoadHidden, {3}), MakeTask(TaskKind::kPostAttn, {4, 0})};
  return plan;
}
const std::vector<TaskTiming> kHandMadeTimes = {{0, 10},  {10, 16}, {10, 18},
                                                {16, 24}, {24, 30}, {30, 40}};

TEST(ExecutorTest, IssuesInOrderAndWaitsAcrossLanesOnly) {
  ScriptedBackend backend(kHandMadeTimes);
  Executor executor(backend);
  CountingRunner runner;
  ASSERT_TRUE(executor.Run(HandMadePlan(), runner).ok());
  EXPECT_EQ(runner.num_runs, 6);
  EXPECT_EQ(backend.log,
            (std::vector<std::string>{"gpu:0", "d2h waits for gpu:0", "d2h:1", "gpu:2",
                                      "cpu waits for d2h:1", "cpu:3", "h2d waits for cpu:3",
                                      "h2d:4", "gpu waits for h2d:4", "gpu:5"}));
}

TEST(ExecutorTest, BooksAddUp) {
  ScriptedBackend backend(kHandMadeTimes);
  Executor executor(backend);
  CountingRunner runner;
  const absl::StatusOr<LaneTimes> times = executor.Run(HandMadePlan(), runner);
  ASSERT_TRUE(times.ok());
  const int gpu = static_cast<int>(Lane::kGpu);
  const int cpu = static_cast<int>(Lane::kCpu);
  const int h2d = static_cast<int>(Lane::kHostToDevice);
  const int d2h = static_cast<int>(Lane::kDeviceToHost);
  EXPECT_EQ(times->step_us, 40);
  EXPECT_EQ(times->busy_us[gpu], 28);
  EXPECT_EQ(times->busy_us[cpu], 8);
  EXPECT_EQ(times->busy_us[h2d], 6);
  EXPECT_EQ(times->busy_us[d2h], 6);
  // The GPU stood still from 18 to 30, for the copy that ended last.
  EXPECT_EQ(times->stall_us[gpu][h2d], 12);
  EXPECT_EQ(times->stall_us[gpu][gpu], 0);
  EXPECT_EQ(times->stall_us[d2h][gpu], 10);
  EXPECT_EQ(times->stall_us[cpu][d2h], 16);
  EXPECT_EQ(times->stall_us[h2d][cpu], 24);
  // D1 (10-16) ran beside pre(1) (10-18); D2 (24-30) beside nothing.
  EXPECT_EQ(times->transfer_overlapped_us, 6);
  EXPECT_EQ(times->compute_overlapped_us, 6);
}

// A load issued ahead runs beside the end of one step and the beginning of the next. The books of
// the next one have it, with what it covered of both; it is issued once.
TEST(ExecutorTest, LoadsIssuedAheadCountInTheStepThatUsesThem) {
  StepPlan plan;
  plan.num_head_tasks = 1;
  plan.tasks = {MakeTask(TaskKind::kLoadWeights, {}), MakeTask(TaskKind::kPreAttn, {}),
                MakeTask(TaskKind::kLoadWeights, {}), MakeTask(TaskKind::kPostAttn, {0})};
  plan.tasks[2].ahead = true;
  // The script is the same for both steps: the head 0-10 beside pre 4-6, post 8-20.
  ScriptedBackend backend({{0, 10}, {4, 6}, {}, {8, 20}});
  Executor executor(backend);
  CountingRunner runner;
  const absl::StatusOr<LaneTimes> first = executor.Run(plan, runner);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(runner.num_runs, 4);
  EXPECT_EQ(first->transfer_overlapped_us, 4);  // 4-6, 8-10
  EXPECT_EQ(first->compute_overlapped_us, 4);
  EXPECT_EQ(first->step_us, 16);  // 4-20: the head may have run long before
  const absl::StatusOr<LaneTimes> second = executor.Run(plan, runner);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(runner.num_runs, 7) << "the head was issued by the first step";
  // Beside this step's compute and, on the same clock here, the last step's; of that, nothing was
  // left uncovered within 0-10.
  EXPECT_EQ(second->transfer_overlapped_us, 8);
  EXPECT_EQ(second->compute_overlapped_us, 4);
}

TEST(ExecutorTest, AnErrorEndsTheStep) {
  ScriptedBackend backend(kHandMadeTimes);
  Executor executor(backend);
  CountingRunner runner;
  runner.fail_on = TaskKind::kAttn;
  EXPECT_EQ(executor.Run(HandMadePlan(), runner).status().message(), "broken");
  EXPECT_EQ(runner.num_runs, 4);
}

}  // namespace
}  // namespace moelight
