#include "engine/pipeline/plan_validator.h"

#include <array>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// The buffers of Activations that tasks of one micro-batch share. The scratch of device compute is
// not listed: one lane runs one task at a time.
enum class Buffer : uint8_t { kHidden, kQkvDevice, kQkvHost, kAttnHost, kAttnDevice, kLogits };

struct Access {
  Buffer buffer;
  bool writes;
};

absl::Span<const Access> AccessesOf(TaskKind kind) {
  static constexpr Access kEmbed[] = {{Buffer::kHidden, true}};
  static constexpr Access kPreAttn[] = {{Buffer::kHidden, false}, {Buffer::kQkvDevice, true}};
  static constexpr Access kOffload[] = {{Buffer::kQkvDevice, false}, {Buffer::kQkvHost, true}};
  static constexpr Access kAttn[] = {{Buffer::kQkvHost, false}, {Buffer::kAttnHost, true}};
  static constexpr Access kLoad[] = {{Buffer::kAttnHost, false}, {Buffer::kAttnDevice, true}};
  static constexpr Access kPost[] = {{Buffer::kAttnDevice, false}, {Buffer::kHidden, true}};
  static constexpr Access kLogits[] = {{Buffer::kHidden, false}, {Buffer::kLogits, true}};
  switch (kind) {
    case TaskKind::kEmbed:
      return kEmbed;
    case TaskKind::kPreAttn:
      return kPreAttn;
    case TaskKind::kOffloadQkv:
      return kOffload;
    case TaskKind::kAttn:
      return kAttn;
    case TaskKind::kLoadHidden:
      return kLoad;
    case TaskKind::kPostAttn:
      return kPost;
    case TaskKind::kLogits:
      return kLogits;
  }
  return {};
}

struct TaskKey {
  TaskKind kind;
  int32_t layer;
  int32_t micro_batch;
  bool operator<(const TaskKey& other) const {
    return std::tie(kind, layer, micro_batch) <
           std::tie(other.kind, other.layer, other.micro_batch);
  }
};

// The task whose result `task` reads, if any.
std::optional<TaskKey> ProducerOf(const Task& task) {
  const int32_t layer = task.layer;
  const int32_t j = task.micro_batch;
  switch (task.kind) {
    case TaskKind::kEmbed:
      return std::nullopt;
    case TaskKind::kPreAttn:
      if (layer == 0) return TaskKey{TaskKind::kEmbed, 0, j};
      return TaskKey{TaskKind::kPostAttn, layer - 1, j};
    case TaskKind::kOffloadQkv:
      return TaskKey{TaskKind::kPreAttn, layer, j};
    case TaskKind::kAttn:
      return TaskKey{TaskKind::kOffloadQkv, layer, j};
    case TaskKind::kLoadHidden:
      return TaskKey{TaskKind::kAttn, layer, j};
    case TaskKind::kPostAttn:
      return TaskKey{TaskKind::kLoadHidden, layer, j};
    case TaskKind::kLogits:
      return TaskKey{TaskKind::kPostAttn, layer, j};
  }
  return std::nullopt;
}

std::string Describe(const StepPlan& plan, int32_t index) {
  const Task& task = plan.tasks[index];
  return absl::StrCat("task ", index, " (", TaskKindName(task.kind), ", layer ", task.layer,
                      ", micro-batch ", task.micro_batch, ")");
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

absl::Status CheckTasks(const StepPlan& plan, const PlanShape& shape,
                        std::map<TaskKey, int32_t>* index_of) {
  for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
    const Task& task = plan.tasks[i];
    if (task.layer < 0 || task.layer >= shape.num_layers || task.micro_batch < 0 ||
        task.micro_batch >= shape.num_micro_batches) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(plan, i), " is outside the shape"));
    }
    for (int32_t before : task.after) {
      if (before < 0 || before >= i) {
        return absl::InvalidArgumentError(absl::StrCat(Describe(plan, i), " waits for task ",
                                                       before, ", not launched before it"));
      }
    }
    if (!index_of->emplace(TaskKey{task.kind, task.layer, task.micro_batch}, i).second) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(plan, i), " is there twice"));
    }
  }
  const int64_t num_expected = int64_t{shape.num_micro_batches} * (2 + 5 * shape.num_layers);
  if (static_cast<int64_t>(plan.tasks.size()) != num_expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("the plan has ", plan.tasks.size(), " tasks, the shape needs ", num_expected));
  }
  return absl::OkStatus();
}

absl::Status CheckHazards(const StepPlan& plan, const HappensBefore& order) {
  struct Use {
    int32_t task;
    bool writes;
  };
  std::map<std::pair<Buffer, int32_t>, std::vector<Use>> uses;
  for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
    for (const Access& access : AccessesOf(plan.tasks[i].kind)) {
      std::vector<Use>& earlier = uses[{access.buffer, plan.tasks[i].micro_batch}];
      for (const Use& use : earlier) {
        if ((use.writes || access.writes) && !order.Ordered(use.task, i)) {
          return absl::InvalidArgumentError(
              absl::StrCat(Describe(plan, i), " may touch a buffer while ",
                           Describe(plan, use.task), " still uses it"));
        }
      }
      earlier.push_back({i, access.writes});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidatePlan(const StepPlan& plan, const PlanShape& shape) {
  std::map<TaskKey, int32_t> index_of;
  RETURN_IF_ERROR(CheckTasks(plan, shape, &index_of));
  const HappensBefore order(plan);
  for (int32_t i = 0; i < static_cast<int32_t>(plan.tasks.size()); ++i) {
    const std::optional<TaskKey> producer = ProducerOf(plan.tasks[i]);
    if (!producer) continue;
    auto it = index_of.find(*producer);
    if (it == index_of.end() || !order.Ordered(it->second, i)) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(plan, i), " does not wait for ",
                                                     TaskKindName(producer->kind), " of layer ",
                                                     producer->layer, ", whose result it reads"));
    }
  }
  return CheckHazards(plan, order);
}

}  // namespace moelight
