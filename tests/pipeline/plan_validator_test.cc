// Goal: every builder's plans pass, and each kind of damage to a plan is found and named.
#include "engine/pipeline/plan_validator.h"

#include <algorithm>
#include <functional>
#include <string>

#include <gtest/gtest.h>

namespace moelight {
namespace {

class BuildersTest
    : public testing::TestWithParam<std::tuple<int /*schedule*/, int /*layers*/, int /*parts*/>> {};

TEST_P(BuildersTest, PlansAreValid) {
  const auto [schedule, num_layers, num_micro_batches] = GetParam();
  const PlanShape shape{num_layers, num_micro_batches};
  const absl::Status status = ValidatePlan(Schedules()[schedule].build(shape), shape);
  EXPECT_TRUE(status.ok()) << Schedules()[schedule].name << ": " << status;
}

INSTANTIATE_TEST_SUITE_P(AllSchedules, BuildersTest,
                         testing::Combine(testing::Range(0, static_cast<int>(Schedules().size())),
                                          testing::Values(1, 2, 5, 32),
                                          testing::Values(1, 2, 3, 16)));

struct Damage {
  const char* name;
  std::function<void(StepPlan*)> apply;
  const char* message;  // part of the error
};

class DamagedPlanTest : public testing::TestWithParam<Damage> {};

TEST_P(DamagedPlanTest, IsFound) {
  const PlanShape shape{2, 2};
  StepPlan plan = BuildSerial(shape);
  GetParam().apply(&plan);
  const absl::Status status = ValidatePlan(plan, shape);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find(GetParam().message), absl::string_view::npos) << status;
}

Task* Find(StepPlan* plan, TaskKind kind, int32_t layer, int32_t micro_batch) {
  return &*std::find_if(plan->tasks.begin(), plan->tasks.end(), [=](const Task& task) {
    return task.kind == kind && task.layer == layer && task.micro_batch == micro_batch;
  });
}

INSTANTIATE_TEST_SUITE_P(
    Damages, DamagedPlanTest,
    testing::Values(
        Damage{"MissingTask", [](StepPlan* plan) { plan->tasks.pop_back(); }, "the shape needs"},
        Damage{"TaskTwice", [](StepPlan* plan) { plan->tasks.push_back(plan->tasks[3]); },
               "is there twice"},
        Damage{"LayerOutOfRange", [](StepPlan* plan) { plan->tasks[2].layer = 2; },
               "is outside the shape"},
        Damage{"MicroBatchOutOfRange", [](StepPlan* plan) { plan->tasks[2].micro_batch = -1; },
               "is outside the shape"},
        Damage{"Cycle", [](StepPlan* plan) { plan->tasks[1].after.push_back(5); },
               "not launched before it"},
        Damage{"WaitsForItself", [](StepPlan* plan) { plan->tasks[4].after.push_back(4); },
               "not launched before it"},
        // Read after write: attention must wait for its QKV to arrive.
        Damage{"AttentionBeforeOffload",
               [](StepPlan* plan) { Find(plan, TaskKind::kAttn, 0, 0)->after.clear(); },
               "does not wait for offload_qkv of layer 0"},
        Damage{"PostAttnBeforeLoad",
               [](StepPlan* plan) { Find(plan, TaskKind::kPostAttn, 1, 1)->after.clear(); },
               "does not wait for load_hidden of layer 1"}),
    [](const testing::TestParamInfo<Damage>& info) { return info.param.name; });

// Write after read: layer 1's D1 overwrites the staging buffer that layer 0's attention reads. Here
// the CPU lane is told to start layer 0's attention late, so nothing orders the two.
TEST(PlanValidatorTest, OverwritingAStagingBufferInUseIsFound) {
  const PlanShape shape{2, 1};
  StepPlan plan = BuildSerial(shape);
  // Let layer 0's tail start from D1 instead of from attention.
  const auto index_of = [&plan](TaskKind kind, int32_t layer) {
    return static_cast<int32_t>(Find(&plan, kind, layer, 0) - plan.tasks.data());
  };
  Find(&plan, TaskKind::kPostAttn, 0, 0)->after = {index_of(TaskKind::kOffloadQkv, 0)};
  const absl::Status status = ValidatePlan(plan, shape);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

}  // namespace
}  // namespace moelight
