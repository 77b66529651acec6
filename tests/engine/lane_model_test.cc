// Goal: the lane model gives the steps that were worked out by hand, and the same as the executor
// on the simulated machine for every schedule, whatever tasks take.
#include "engine/planner/lane_model.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "engine/backend/simulated/simulated_backend.h"
#include "engine/backend/simulated/virtual_clock.h"
#include "engine/pipeline/executor.h"
#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

constexpr TaskKind kPreAttn = TaskKind::kPreAttn;
constexpr TaskKind kAttn = TaskKind::kAttn;
constexpr TaskKind kPostAttn = TaskKind::kPostAttn;
constexpr TaskKind kLoad = TaskKind::kLoadWeights;

struct HandMade {
  const char* name;
  std::vector<Task> tasks;
  int32_t num_head_tasks;
  std::vector<double> task_us;
  double host_us;
  double step_us;
  std::array<double, kNumLanes> busy_us;  // gpu, cpu, h2d, d2h
};

Task MakeTask(TaskKind kind, std::vector<int32_t> after, bool ahead = false) {
  Task task = {kind};
  task.ahead = ahead;
  task.after = std::move(after);
  return task;
}

std::vector<HandMade> HandMadePlans() {
  return {
      {"nothing", {}, 0, {}, 3, 3, {}},
      // A chain over all lanes: 10 + 2 + 20 + 3 + 30, and 5 between steps.
      {"chain",
       {MakeTask(kPreAttn, {}), MakeTask(TaskKind::kOffloadQkv, {0}), MakeTask(kAttn, {1}),
        MakeTask(TaskKind::kLoadHidden, {2}), MakeTask(kPostAttn, {3})},
       0,
       {10, 2, 20, 3, 30},
       5,
       70,
       {40, 20, 3, 2}},
      // gpu  pre(0) 0-10, pre(1) 10-20, post(0) 25-30, post(1) 40-45
      // cpu               attn(0) 10-25, attn(1) 25-40
      {"two lanes",
       {MakeTask(kPreAttn, {}), MakeTask(kAttn, {0}), MakeTask(kPreAttn, {}), MakeTask(kAttn, {2}),
        MakeTask(kPostAttn, {1}), MakeTask(kPostAttn, {3})},
       0,
       {10, 15, 10, 15, 5, 5},
       0,
       45,
       {30, 30, 0, 0}},
      // What a lane does in vain for others ends the step too.
      {"no edges",
       {MakeTask(kPreAttn, {}), MakeTask(kAttn, {}), MakeTask(kLoad, {})},
       0,
       {7, 8, 9},
       1,
       10,
       {7, 8, 9, 0}},
      // Every step loads at its begin: 20, then 10, and 2 between steps.
      {"nothing ahead",
       {MakeTask(kLoad, {}), MakeTask(kPreAttn, {}), MakeTask(kPostAttn, {0, 1})},
       1,
       {20, 5, 10},
       2,
       32,
       {15, 0, 20, 0}},
      // Room for two: the link never stops, and binds.
      {"ahead",
       {MakeTask(kLoad, {}), MakeTask(kPreAttn, {}), MakeTask(kPostAttn, {0, 1}),
        MakeTask(kLoad, {}, true)},
       1,
       {20, 5, 10, 20},
       2,
       20,
       {15, 0, 20, 0}},
      // The same with a faster link: what binds is the rest.
      {"ahead, fast link",
       {MakeTask(kLoad, {}), MakeTask(kPreAttn, {}), MakeTask(kPostAttn, {0, 1}),
        MakeTask(kLoad, {}, true)},
       1,
       {16, 5, 10, 16},
       2,
       17,
       {15, 0, 16, 0}},
      // Room for one: the next load waits until this one has been used.
      {"ahead, once there is room",
       {MakeTask(kLoad, {}), MakeTask(kPreAttn, {}), MakeTask(kPostAttn, {0, 1}),
        MakeTask(kLoad, {2}, true)},
       1,
       {20, 5, 10, 20},
       2,
       30,
       {15, 0, 20, 0}},
  };
}

TEST(LaneModelTest, StepsAreThoseWorkedOutByHand) {
  for (const HandMade& hand_made : HandMadePlans()) {
    const StepPlan plan = {hand_made.tasks, hand_made.num_head_tasks};
    const LanePrediction prediction = PredictSteadyStep(plan, hand_made.task_us, hand_made.host_us);
    EXPECT_DOUBLE_EQ(prediction.step_us, hand_made.step_us) << hand_made.name;
    EXPECT_EQ(prediction.busy_us, hand_made.busy_us) << hand_made.name;
  }
}

// A task takes what the test says; a load ahead what it takes in the step that it is of.
class TimedTasks final : public TaskRunner {
 public:
  TimedTasks(const StepPlan& plan, const std::vector<double>& task_us) {
    for (size_t i = 0; i < plan.tasks.size(); ++i) times_[KeyOf(plan.tasks[i])] = task_us[i];
  }
  absl::Status Run(const Task& task, Stream& stream) override {
    dynamic_cast<SimulatedStream&>(stream).Spend(times_.at(KeyOf(task)));
    return absl::OkStatus();
  }

 private:
  using Key = std::tuple<TaskKind, int32_t, int32_t, int32_t>;
  static Key KeyOf(const Task& task) {
    return {task.kind, task.layer, task.micro_batch, task.part};
  }
  std::map<Key, double> times_;
};

// Of `num_steps` steps that follow each other, from begin to begin.
std::vector<double> RunSteps(const StepPlan& plan, const std::vector<double>& task_us,
                             double host_us, int num_steps,
                             std::array<double, kNumLanes>* last_busy_us) {
  const SimulatedMachine machine = CreateSimulatedMachine(LargeGpuProfile());
  Executor executor(*machine.device);
  TimedTasks runner(plan, task_us);
  std::vector<double> step_us;
  for (int step = 0; step < num_steps; ++step) {
    const double begin_us = machine.clock->host_us();
    const absl::StatusOr<LaneTimes> times = executor.Run(plan, runner);
    EXPECT_TRUE(times.ok()) << times.status();
    if (times.ok()) *last_busy_us = times->busy_us;
    machine.clock->AdvanceHost(host_us);
    step_us.push_back(machine.clock->host_us() - begin_us);
  }
  return step_us;
}

// Times of equal tasks are equal in every step: a load's is that of the same load ahead.
std::vector<double> RandomTimes(const StepPlan& plan, std::mt19937& random) {
  // Each kind of task has its own scale, so that now this lane binds and now that.
  std::array<double, kNumTaskKinds> scale;
  for (double& s : scale) s = std::exp2(std::uniform_real_distribution<>(0, 8)(random));
  std::map<std::pair<int32_t, int32_t>, double> load_us;
  std::vector<double> task_us;
  for (const Task& task : plan.tasks) {
    double us = scale[static_cast<int>(task.kind)] * std::uniform_real_distribution<>(1, 2)(random);
    if (task.kind == kLoad)
      us = load_us.emplace(std::pair(task.layer, task.part), us).first->second;
    task_us.push_back(us);
  }
  return task_us;
}

PlanShape RandomShape(std::mt19937& random) {
  const auto below = [&random](int n) { return static_cast<int>(random() % n); };
  PlanShape shape;
  shape.num_layers = 1 + below(6);
  shape.num_micro_batches = 1 + below(6);
  shape.micro_batches_per_group = 1 + below(shape.num_micro_batches);
  const int attention = below(5);
  shape.host_attention = attention == 0 || attention >= 3;
  shape.device_attention = attention >= 1;
  shape.load_kv = attention == 2 || attention == 4;
  if (below(4) == 0) return shape;
  int64_t most = 0;
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    shape.weights.layer_pages.push_back(below(5) == 0 ? 0 : 1 + below(12));
    most = std::max(most, shape.weights.layer_pages.back());
  }
  if (most == 0) {
    shape.weights = {};
    return shape;
  }
  shape.weights.num_ring_slots = most + below(static_cast<int>(most) + 1);
  shape.weights.num_parts = static_cast<int32_t>(std::min<int64_t>(1 + below(8), most));
  return shape;
}

class LaneModelOfTest : public testing::TestWithParam<Schedule> {};

TEST_P(LaneModelOfTest, IsWhatTheExecutorDoes) {
  std::mt19937 random(17);
  for (int round = 0; round < 200; ++round) {
    const PlanShape shape = RandomShape(random);
    const StepPlan plan = GetParam().build(shape);
    const std::vector<double> task_us = RandomTimes(plan, random);
    const double host_us = std::uniform_real_distribution<>(0, 100)(random);
    const LanePrediction prediction = PredictSteadyStep(plan, task_us, host_us);
    std::array<double, kNumLanes> busy_us = {};
    const std::vector<double> step_us = RunSteps(plan, task_us, host_us, 8, &busy_us);
    for (size_t step = 2; step < step_us.size(); ++step) {
      EXPECT_NEAR(step_us[step], prediction.step_us, 1e-6 * prediction.step_us)
          << "round " << round << ", step " << step;
    }
    for (int lane = 0; lane < kNumLanes; ++lane) {
      EXPECT_NEAR(busy_us[lane], prediction.busy_us[lane], 1e-6 * prediction.step_us)
          << "round " << round << ", " << LaneName(kAllLanes[lane]);
    }
  }
}

// Sums and maxima only: a task that takes longer never makes a step shorter.
TEST_P(LaneModelOfTest, NoStepBecomesShorterBecauseATaskTakesLonger) {
  std::mt19937 random(18);
  for (int round = 0; round < 100; ++round) {
    const StepPlan plan = GetParam().build(RandomShape(random));
    std::vector<double> task_us = RandomTimes(plan, random);
    const double before_us = PredictSteadyStep(plan, task_us, 10).step_us;
    for (int change = 0; change < 10; ++change) {
      std::vector<double> longer = task_us;
      const Task& task = plan.tasks[random() % plan.tasks.size()];
      for (size_t i = 0; i < longer.size(); ++i) {
        const Task& other = plan.tasks[i];
        if (other.kind == task.kind && other.layer == task.layer) longer[i] *= 1.5;
      }
      // Up to the rounding of sums.
      EXPECT_GE(PredictSteadyStep(plan, longer, 10).step_us, before_us * (1 - 1e-9));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllSchedules, LaneModelOfTest, testing::ValuesIn(Schedules()),
                         [](const testing::TestParamInfo<Schedule>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace moelight
