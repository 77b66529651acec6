// Goal: every builder's plans pass, and each kind of damage to a plan is found and named.
#include "engine/pipeline/plan_validator.h"

#include <algorithm>
#include <functional>
#include <string>

#include <gtest/gtest.h>

namespace moelight {
namespace {

// Shapes with the awkward cases: layers without streamed pages, fewer pages than parts, a ring of
// exactly one layer, one and a half, two; experts for each micro-batch and for groups of them, of
// which the last may be smaller.
std::vector<PlanShape> Shapes() {
  std::vector<PlanShape> shapes;
  const std::vector<std::vector<int64_t>> streams = {
      {}, {5}, {0}, {8, 8}, {3, 3, 4, 3, 3}, {0, 7, 0, 7, 7}, {7, 0, 0, 0, 0}, {1, 1, 1, 1, 1}};
  for (const std::vector<int64_t>& layer_pages : streams) {
    const int32_t num_layers = layer_pages.empty() ? 3 : static_cast<int32_t>(layer_pages.size());
    const int64_t most =
        layer_pages.empty() ? 0 : *std::max_element(layer_pages.begin(), layer_pages.end());
    for (auto [num_micro_batches, per_group] :
         {std::pair(1, 1), {2, 1}, {3, 1}, {5, 1}, {16, 1}, {3, 2}, {5, 3}, {5, 2}, {16, 8}}) {
      for (int64_t num_ring_slots : {most, most * 3 / 2, 2 * most, 3 * most}) {
        for (int attention : {0, 1, 2, 3, 4}) {
          PlanShape shape;
          shape.num_layers = num_layers;
          shape.num_micro_batches = num_micro_batches;
          shape.micro_batches_per_group = per_group;
          shape.host_attention = attention == 0 || attention >= 3;
          shape.device_attention = attention >= 1;
          shape.load_kv = attention == 2 || attention == 4;
          if (most > 0) shape.weights = {layer_pages, num_ring_slots, 4};
          shapes.push_back(shape);
          if (most == 0) break;
        }
      }
    }
  }
  return shapes;
}

class BuildersTest : public testing::TestWithParam<Schedule> {};

TEST_P(BuildersTest, PlansAreValid) {
  for (const PlanShape& shape : Shapes()) {
    const absl::Status status = ValidatePlan(GetParam().build(shape), shape);
    ASSERT_TRUE(status.ok()) << shape.num_layers << " layers, " << shape.num_micro_batches
                             << " micro-batches, groups of " << shape.micro_batches_per_group
                             << ", ring of " << shape.weights.num_ring_slots << ": " << status;
  }
}

// A real model: 32 layers of 168 pages.
TEST_P(BuildersTest, PlanOfALargeModelIsValid) {
  PlanShape shape{32, 4, true, true, true, {std::vector<int64_t>(32, 168), 336, 8}};
  const absl::Status status = ValidatePlan(GetParam().build(shape), shape);
  EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(AllSchedules, BuildersTest, testing::ValuesIn(Schedules()),
                         [](const testing::TestParamInfo<Schedule>& info) {
                           return std::string(info.param.name);
                         });

Task* Find(StepPlan* plan, TaskKind kind, int32_t layer, int32_t micro_batch, int32_t part = 0) {
  return &*std::find_if(plan->tasks.begin(), plan->tasks.end(), [=](const Task& task) {
    return task.kind == kind && task.layer == layer && task.micro_batch == micro_batch &&
           task.part == part;
  });
}

int32_t IndexOf(StepPlan* plan, TaskKind kind, int32_t layer, int32_t micro_batch,
                int32_t part = 0) {
  return static_cast<int32_t>(Find(plan, kind, layer, micro_batch, part) - plan->tasks.data());
}

// What makes CGOPipe: D2 and pages take turns, PreAttn runs two micro-batches ahead, and the next
// step's first layer is on its way before this step has ended.
TEST(CgopipeTest, LaunchesInTheOrderOfThePaper) {
  const PlanShape shape{3, 4, true, false, false, {{8, 8, 8}, 16, 8}};
  StepPlan plan = BuildCgopipe(shape);
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int32_t j = 0; j < 4; ++j) {
      const int32_t load_hidden = IndexOf(&plan, TaskKind::kLoadHidden, layer, j);
      const int32_t first_page = IndexOf(&plan, TaskKind::kLoadWeights, layer + 1, 0, 2 * j);
      const int32_t post_attn = IndexOf(&plan, TaskKind::kPostAttn, layer, j);
      const int32_t experts = IndexOf(&plan, TaskKind::kExperts, layer, j);
      const int32_t pre_attn = IndexOf(&plan, TaskKind::kPreAttn, layer + (j + 2) / 4, (j + 2) % 4);
      EXPECT_LT(load_hidden, first_page);
      EXPECT_LT(first_page, post_attn);
      EXPECT_EQ(post_attn + 1, experts);
      EXPECT_LT(experts, pre_attn);
    }
  }
  EXPECT_EQ(plan.num_head_tasks, 8);
  EXPECT_EQ(std::count_if(plan.tasks.begin(), plan.tasks.end(),
                          [](const Task& task) { return task.ahead; }),
            8);
  // No copy of a hidden state waits for more than its slot's pages: two of eight parts.
  EXPECT_LT(IndexOf(&plan, TaskKind::kLoadHidden, 0, 1),
            IndexOf(&plan, TaskKind::kLoadWeights, 1, 0, 2));
}

// A page may only overwrite one whose layer has been used, and the edge says so.
TEST(CgopipeTest, LoadsWaitForTheLastUseOfWhatTheyOverwrite) {
  const PlanShape shape{4, 2, true, false, false, {{4, 4, 4, 4}, 8, 4}};
  StepPlan plan = BuildCgopipe(shape);
  const int32_t last_use = IndexOf(&plan, TaskKind::kExperts, 0, 1);
  const std::vector<int32_t>& after = Find(&plan, TaskKind::kLoadWeights, 2, 0)->after;
  EXPECT_NE(std::find(after.begin(), after.end(), last_use), after.end());
}

// Two groups of three and two. The hidden states of a group come one behind the other, then its
// share of pages; its experts run once, behind its last; then its next attention starts, beside
// which the other group comes back.
TEST(CgopipeTest, GroupsTakeTurns) {
  const PlanShape shape{3, 5, true, false, false, {{10, 10, 10}, 20, 10}, 3};
  StepPlan plan = BuildCgopipe(shape);
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int32_t j = 0; j < 5; ++j) {
      const int32_t group = j < 3 ? 0 : 3;
      const int32_t experts = IndexOf(&plan, TaskKind::kExperts, layer, group);
      // Six parts of ten, and four.
      const int32_t first_page = IndexOf(&plan, TaskKind::kLoadWeights, layer + 1, 0, 2 * group);
      EXPECT_LT(IndexOf(&plan, TaskKind::kLoadHidden, layer, j), first_page);
      EXPECT_LT(first_page, experts);
      EXPECT_LT(IndexOf(&plan, TaskKind::kPostAttn, layer, j), experts);
      EXPECT_LT(experts, IndexOf(&plan, TaskKind::kPreAttn, layer + 1, j));
    }
    EXPECT_EQ(Find(&plan, TaskKind::kExperts, layer, 0)->num_micro_batches, 3);
    EXPECT_EQ(Find(&plan, TaskKind::kExperts, layer, 3)->num_micro_batches, 2);
    EXPECT_LT(IndexOf(&plan, TaskKind::kLoadWeights, layer + 1, 0, 5),
              IndexOf(&plan, TaskKind::kLoadHidden, layer, 3));
    // The CPU has the first group's next attention to do while the second's experts run.
    EXPECT_LT(IndexOf(&plan, TaskKind::kAttn, layer + 1, 2),
              IndexOf(&plan, TaskKind::kLoadHidden, layer, 3));
  }
}

struct Damage {
  const char* name;
  std::function<void(StepPlan*)> apply;
  const char* message;  // part of the error
  int32_t micro_batches_per_group = 1;
  // Without hidden states and KV pages on the link, which come behind weights and so bring order.
  bool only_weights_on_link = false;
};

class DamagedPlanTest : public testing::TestWithParam<Damage> {};

TEST_P(DamagedPlanTest, IsFound) {
  // A ring of one layer: every load overwrites the layer before.
  const int32_t per_group = GetParam().micro_batches_per_group;
  const bool on_link = !GetParam().only_weights_on_link;
  const PlanShape shape{2, 2 * per_group, on_link, true, on_link, {{4, 4}, 4, 2}, per_group};
  StepPlan plan = BuildCgopipe(shape);
  ASSERT_TRUE(ValidatePlan(plan, shape).ok());
  GetParam().apply(&plan);
  const absl::Status status = ValidatePlan(plan, shape);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find(GetParam().message), absl::string_view::npos) << status;
}

INSTANTIATE_TEST_SUITE_P(
    Damages, DamagedPlanTest,
    testing::Values(
        Damage{"MissingTask",
               [](StepPlan* plan) {
                 while (plan->tasks.back().kind == TaskKind::kLoadWeights) plan->tasks.pop_back();
                 plan->tasks.pop_back();
               },
               "the shape needs"},
        Damage{"MissingLoadAhead", [](StepPlan* plan) { plan->tasks.pop_back(); }, "ahead"},
        Damage{"TaskTwice", [](StepPlan* plan) { plan->tasks.push_back(plan->tasks[9]); },
               "is there twice"},
        Damage{"LayerOutOfRange", [](StepPlan* plan) { plan->tasks[9].layer = 2; },
               "is outside the shape"},
        Damage{"MicroBatchOutOfRange", [](StepPlan* plan) { plan->tasks[9].micro_batch = -1; },
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
               "does not wait for load_hidden of layer 1"},
        Damage{"ExpertsBeforeTheirWeights",
               [](StepPlan* plan) { Find(plan, TaskKind::kExperts, 0, 0)->after.clear(); },
               "does not wait for load_weights of layer 0", 1, true},
        // Write after read: pages of the next step over those that the experts still use.
        Damage{"AheadLoadDoesNotWait",
               [](StepPlan* plan) {
                 for (Task& task : plan->tasks) {
                   if (task.ahead) task.after.clear();
                 }
               },
               "still uses it"},
        Damage{"AheadLoadTooEarly",
               [](StepPlan* plan) {
                 const auto ahead = std::find_if(plan->tasks.begin(), plan->tasks.end(),
                                                 [](const Task& task) { return task.ahead; });
                 ahead->part = 1;
               },
               "is not the next load"},
        Damage{"HeadIsNotTheHead",
               [](StepPlan* plan) { std::swap(plan->tasks[0].part, plan->tasks[1].part); },
               "is not part 0 of the head"},
        Damage{"StagingTakenTooEarly",
               [](StepPlan* plan) { Find(plan, TaskKind::kLoadKv, 1, 0)->after.clear(); },
               "still uses it"},
        Damage{"MissingExperts",
               [](StepPlan* plan) {
                 // What waits for them waits for the projection in front of them.
                 const int32_t experts = IndexOf(plan, TaskKind::kExperts, 1, 3);
                 plan->tasks.erase(plan->tasks.begin() + experts);
                 for (Task& task : plan->tasks) {
                   for (int32_t& before : task.after) before -= before >= experts;
                 }
               },
               "tasks experts, the shape needs 4", 3},
        Damage{"ExpertsOfNoGroup",
               [](StepPlan* plan) { Find(plan, TaskKind::kExperts, 0, 3)->micro_batch = 2; },
               "is outside the shape", 3},
        Damage{"ExpertsOfPartOfAGroup",
               [](StepPlan* plan) { Find(plan, TaskKind::kExperts, 0, 3)->num_micro_batches = 2; },
               "is outside the shape", 3},
        Damage{"ExpertsOfMoreThanAGroup",
               [](StepPlan* plan) { Find(plan, TaskKind::kExperts, 0, 0)->num_micro_batches = 6; },
               "is outside the shape", 3},
        Damage{"ProjectionOfAGroup",
               [](StepPlan* plan) { Find(plan, TaskKind::kPostAttn, 0, 0)->num_micro_batches = 3; },
               "is outside the shape", 3},
        Damage{"ExpertsTwice",
               [](StepPlan* plan) { plan->tasks.push_back(*Find(plan, TaskKind::kExperts, 0, 3)); },
               "is there twice", 3},
        // The group is complete only with its last projection.
        Damage{"ExpertsBeforeTheLastProjection",
               [](StepPlan* plan) {
                 const int32_t experts = IndexOf(plan, TaskKind::kExperts, 1, 0);
                 const int32_t last = IndexOf(plan, TaskKind::kPostAttn, 1, 2);
                 std::swap(plan->tasks[experts], plan->tasks[last]);
                 plan->tasks[last].after.clear();
               },
               "does not wait for", 3},
        Damage{"GroupedExpertsBeforeTheirWeights",
               [](StepPlan* plan) { Find(plan, TaskKind::kExperts, 1, 0)->after.clear(); },
               "does not wait for load_weights of layer 1", 3, true},
        // Layer 1 goes over the ring's only layer once both groups have used it.
        Damage{"PagesLoadedBesideTheLastGroup",
               [](StepPlan* plan) {
                 const int32_t first_group = IndexOf(plan, TaskKind::kExperts, 0, 0);
                 for (Task& task : plan->tasks) {
                   if (task.kind != TaskKind::kLoadWeights || task.layer == 0) continue;
                   task.after = {first_group};
                 }
               },
               "still uses it", 3, true}),
    [](const testing::TestParamInfo<Damage>& info) { return info.param.name; });

// Write after read: layer 1's D1 overwrites the staging buffer that layer 0's attention reads. Here
// the CPU lane is told to start layer 0's attention late, so nothing orders the two.
TEST(PlanValidatorTest, OverwritingAStagingBufferInUseIsFound) {
  PlanShape shape;
  shape.num_layers = 2;
  shape.num_micro_batches = 1;
  StepPlan plan = BuildSerial(shape);
  // Let layer 0's tail start from D1 instead of from attention.
  Find(&plan, TaskKind::kPostAttn, 0, 0)->after = {IndexOf(&plan, TaskKind::kOffloadQkv, 0, 0)};
  const absl::Status status = ValidatePlan(plan, shape);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

}  // namespace
}  // namespace moelight
