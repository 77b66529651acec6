#include "engine/pipeline/plan_validator.h"

#include <array>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/pipeline/task_accesses.h"

namespace moelight {
namespace {

using TaskKey = std::tuple<TaskKind, int32_t /*layer*/, int32_t /*micro_batch*/, int32_t /*part*/,
                           bool /*ahead*/>;

TaskKey KeyOf(const Task& task) {
  return {task.kind, task.layer, task.micro_batch, task.part, task.ahead};
}

// The tasks whose results `task` reads.
std::vector<TaskKey> ProducersOf(const Task& task, const PlanShape& shape) {
  const int32_t layer = task.layer;
  const int32_t j = task.micro_batch;
  const auto of = [j](TaskKind kind, int32_t at) { return TaskKey{kind, at, j, 0, false}; };
  const auto experts = [&shape, j](int32_t at) {
    return TaskKey{TaskKind::kExperts, at, shape.first_of_group(j), 0, false};
  };
  switch (task.kind) {
    case TaskKind::kEmbed:
    case TaskKind::kLoadKv:
    case TaskKind::kLoadWeights:
      return {};
    case TaskKind::kPreAttn:
      if (layer == 0) return {of(TaskKind::kEmbed, 0)};
      return {experts(layer - 1)};
    case TaskKind::kOffloadQkv:
      return {of(TaskKind::kPreAttn, layer)};
    case TaskKind::kAttn:
      return {of(TaskKind::kOffloadQkv, layer)};
    case TaskKind::kLoadHidden:
      return {of(TaskKind::kAttn, layer)};
    case TaskKind::kDeviceAttn:
      if (!shape.load_kv) return {of(TaskKind::kPreAttn, layer)};
      return {of(TaskKind::kPreAttn, layer), of(TaskKind::kLoadKv, layer)};
    case TaskKind::kOffloadKv:
      return {of(TaskKind::kDeviceAttn, layer)};
    case TaskKind::kPostAttn: {
      std::vector<TaskKey> keys;
      if (shape.host_attention) keys.push_back(of(TaskKind::kLoadHidden, layer));
      if (shape.device_attention) keys.push_back(of(TaskKind::kDeviceAttn, layer));
      return keys;
    }
    case TaskKind::kExperts: {
      std::vector<TaskKey> keys;
      for (int32_t k = j; k < j + shape.group_size(j); ++k) {
        keys.push_back({TaskKind::kPostAttn, layer, k, 0, false});
      }
      if (!shape.weights.streams(layer)) return keys;
      for (int32_t part = 0; part < shape.weights.num_parts; ++part) {
        keys.push_back({TaskKind::kLoadWeights, layer, 0, part, false});
      }
      return keys;
    }
    case TaskKind::kLogits:
      return {experts(layer)};
    case TaskKind::kOffloadLogits:
      return {of(TaskKind::kLogits, layer)};
  }
  return {};
}

// How many tasks of a kind the shape needs, those issued ahead apart.
int64_t NumExpected(TaskKind kind, const PlanShape& shape) {
  const int64_t n = shape.num_micro_batches;
  const int64_t units = n * shape.num_layers;
  switch (kind) {
    case TaskKind::kEmbed:
    case TaskKind::kLogits:
    case TaskKind::kOffloadLogits:
      return n;
    case TaskKind::kPreAttn:
    case TaskKind::kPostAttn:
      return units;
    case TaskKind::kExperts:
      return int64_t{shape.num_groups()} * shape.num_layers;
    case TaskKind::kOffloadQkv:
    case TaskKind::kAttn:
    case TaskKind::kLoadHidden:
      return shape.host_attention ? units : 0;
    case TaskKind::kDeviceAttn:
    case TaskKind::kOffloadKv:
      return shape.device_attention ? units : 0;
    case TaskKind::kLoadKv:
      return shape.device_attention && shape.load_kv ? units : 0;
    case TaskKind::kLoadWeights: {
      int64_t num_layers = 0;
      for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
        num_layers += shape.weights.streams(layer);
      }
      return num_layers * shape.weights.num_parts;
    }
  }
  return 0;
}

std::string Describe(const StepPlan& plan, int32_t index) {
  const Task& task = plan.tasks[index];
  return absl::StrCat("task ", index, " (", TaskKindName(task.kind), ", layer ", task.layer,
                      ", micro-batch ", task.micro_batch,
                      task.kind == TaskKind::kLoadWeights ? absl::StrCat(", part ", task.part) : "",
                      task.ahead ? ", ahead)" : ")");
}

// For each task, the set of tasks that have ended when it starts.
class HappensBefore {
 public:
  explicit HappensBefore(const StepPlan& plan)
      : num_words_((plan.tasks.size() + 63) / 64), bits_(plan.tasks.size() * num_words_) {
    std::array<int32_t, kNumLanes> last_on_lane;
    last_on_lane.fill(-1);
    for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
      for (int32_t before : plan.tasks[i].after) Inherit(i, before);
      int32_t& last = last_on_lane[static_cast<int>(TaskLane(plan.tasks[i].kind))];
      if (last >= 0) Inherit(i, last);
      last = i;
    }
  }
  bool Ordered(int32_t before, int32_t after) const {
    return (bits_[after * num_words_ + before / 64] >> (before % 64)) & 1;
  }

 private:
  void Inherit(int32_t task, int32_t before) {
    for (size_t w = 0; w < num_words_; ++w) {
      bits_[task * num_words_ + w] |= bits_[before * num_words_ + w];
    }
    bits_[task * num_words_ + before / 64] |= uint64_t{1} << (before % 64);
  }

  const size_t num_words_;
  std::vector<uint64_t> bits_;
};

bool IsInside(const Task& task, const PlanShape& shape) {
  const int32_t j = task.micro_batch;
  if (task.layer < 0 || task.layer >= shape.num_layers || j < 0 || j >= shape.num_micro_batches) {
    return false;
  }
  if (task.kind == TaskKind::kExperts) {
    if (j != shape.first_of_group(j) || task.num_micro_batches != shape.group_size(j)) return false;
  } else if (task.num_micro_batches != 1) {
    return false;
  }
  if (task.kind != TaskKind::kLoadWeights) return task.part == 0;
  return shape.weights.streams(task.layer) && task.part >= 0 && task.part < shape.weights.num_parts;
}

absl::Status CheckTasks(const StepPlan& plan, const PlanShape& shape,
                        std::map<TaskKey, int32_t>* index_of) {
  std::array<int64_t, kNumTaskKinds> num_of = {};
  int32_t num_ahead = 0;
  for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
    const Task& task = plan.tasks[i];
    const bool is_load = task.kind == TaskKind::kLoadWeights;
    if (!IsInside(task, shape)) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(plan, i), " is outside the shape"));
    }
    for (int32_t before : task.after) {
      if (before < 0 || before >= i) {
        return absl::InvalidArgumentError(absl::StrCat(Describe(plan, i), " waits for task ",
                                                       before, ", not launched before it"));
      }
    }
    if (!index_of->emplace(KeyOf(task), i).second) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(plan, i), " is there twice"));
    }
    if (task.ahead &&
        (!is_load || task.layer != shape.weights.first_layer() || task.part != num_ahead++)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Describe(plan, i), " is not the next load of the next step"));
    }
    if (!task.ahead) ++num_of[static_cast<int>(task.kind)];
  }
  for (int kind = 0; kind < kNumTaskKinds; ++kind) {
    const int64_t expected = NumExpected(static_cast<TaskKind>(kind), shape);
    if (num_of[kind] == expected) continue;
    return absl::InvalidArgumentError(absl::StrCat("the plan has ", num_of[kind], " tasks ",
                                                   TaskKindName(static_cast<TaskKind>(kind)),
                                                   ", the shape needs ", expected));
  }
  return absl::OkStatus();
}

// The head is what a plan of this shape loads ahead for the next, task by task.
absl::Status CheckHead(const StepPlan& plan, const PlanShape& shape) {
  int32_t num_ahead = 0;
  for (const Task& task : plan.tasks) num_ahead += task.ahead;
  const bool is_none = plan.num_head_tasks == 0 && num_ahead == 0;
  if (!is_none && (plan.num_head_tasks != shape.weights.num_parts ||
                   num_ahead != plan.num_head_tasks || shape.weights.first_layer() < 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the plan has ", plan.num_head_tasks, " head tasks and loads ", num_ahead,
                     " ahead, of ", shape.weights.num_parts, " parts"));
  }
  for (int32_t i = 0; i < plan.num_head_tasks; ++i) {
    const Task& task = plan.tasks[i];
    if (task.kind == TaskKind::kLoadWeights && task.layer == shape.weights.first_layer() &&
        task.part == i && !task.ahead && task.after.empty()) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(plan, i), " is not part ", i, " of the head"));
  }
  return absl::OkStatus();
}

absl::Status CheckProducers(const StepPlan& plan, const PlanShape& shape,
                            const std::map<TaskKey, int32_t>& index_of,
                            const HappensBefore& order) {
  for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
    for (const TaskKey& producer : ProducersOf(plan.tasks[i], shape)) {
      auto it = index_of.find(producer);
      if (it != index_of.end() && order.Ordered(it->second, i)) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          Describe(plan, i), " does not wait for ", TaskKindName(std::get<0>(producer)),
          " of layer ", std::get<1>(producer), ", whose result it reads"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHazards(const StepPlan& plan, const PlanShape& shape,
                          const HappensBefore& order) {
  struct Use {
    int32_t task;
    bool writes;
  };
  std::map<Resource, std::vector<Use>> uses;
  for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
    for (const Access& access : AccessesOf(plan.tasks[i], shape)) {
      std::vector<Use>& earlier = uses[access.resource];
      for (const Use& use : earlier) {
        if ((use.writes || access.writes) && !order.Ordered(use.task, i)) {
          return absl::InvalidArgumentError(
              absl::StrCat(Describe(plan, i), " may touch a buffer while ",
                           Describe(plan, use.task), " still uses it"));
        }
      }
      // A write is ordered behind all that is listed: what comes later need only look at it.
      if (access.writes) earlier.clear();
      earlier.push_back({i, access.writes});
    }
  }
  return absl::OkStatus();
}

// Every kExperts finds its own layer's pages in the ring: what was launched last into each slot.
absl::Status CheckRing(const StepPlan& plan, const PlanShape& shape) {
  std::map<int64_t, std::pair<int32_t, int64_t>> content;  // slot -> layer, page; ahead: layer -1
  for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
    const Task& task = plan.tasks[i];
    const WeightStream& weights = shape.weights;
    if (task.kind == TaskKind::kLoadWeights) {
      for (int64_t page = weights.part_begin(task.layer, task.part);
           page < weights.part_end(task.layer, task.part); ++page) {
        content[RingSlot(weights, task.layer, page, task.ahead)] = {task.ahead ? -1 : task.layer,
                                                                    page};
      }
    } else if (task.kind == TaskKind::kExperts && weights.streams(task.layer)) {
      for (int64_t page = 0; page < weights.layer_pages[task.layer]; ++page) {
        auto it = content.find(RingSlot(weights, task.layer, page, false));
        if (it != content.end() && it->second == std::make_pair(task.layer, page)) continue;
        return absl::InvalidArgumentError(
            absl::StrCat(Describe(plan, i), " finds page ", page, " overwritten in the ring"));
      }
    }
  }
  return absl::OkStatus();
}

// Every device attention finds its own micro-batch's pages in the staging, and they are still there
// when they are offloaded.
absl::Status CheckStaging(const StepPlan& plan, const PlanShape& shape) {
  std::array<TaskKey, kNumKvStagings> content = {};  // by layer and micro-batch of a kLoadKv
  for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
    const Task& task = plan.tasks[i];
    const TaskKey unit = {TaskKind::kLoadKv, task.layer, task.micro_batch, 0, false};
    TaskKey& held = content[KvStagingOf(task, shape.num_micro_batches)];
    const bool fills =
        task.kind == TaskKind::kLoadKv || (task.kind == TaskKind::kDeviceAttn && !shape.load_kv);
    const bool uses = task.kind == TaskKind::kDeviceAttn || task.kind == TaskKind::kOffloadKv;
    if (fills) held = unit;
    if (uses && held != unit) {
      return absl::InvalidArgumentError(
          absl::StrCat(Describe(plan, i), " finds other pages in the KV staging"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidatePlan(const StepPlan& plan, const PlanShape& shape) {
  std::map<TaskKey, int32_t> index_of;
  RETURN_IF_ERROR(CheckTasks(plan, shape, &index_of));
  RETURN_IF_ERROR(CheckHead(plan, shape));
  const HappensBefore order(plan);
  RETURN_IF_ERROR(CheckProducers(plan, shape, index_of, order));
  RETURN_IF_ERROR(CheckRing(plan, shape));
  RETURN_IF_ERROR(CheckStaging(plan, shape));
  return CheckHazards(plan, shape, order);
}

}  // namespace moelight
