// PlanBuilder: what all schedules share. A schedule only says in which order tasks are launched;
// the edges between lanes follow from what the tasks read and write.
#ifndef MOELIGHT_ENGINE_PIPELINE_PLAN_BUILDER_H_
#define MOELIGHT_ENGINE_PIPELINE_PLAN_BUILDER_H_

#include <array>
#include <cstdint>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "engine/pipeline/step_plan.h"
#include "engine/pipeline/task_accesses.h"

namespace moelight {

// What follows the kPostAttn of `micro_batch` in every schedule, by `add`(kind, layer,
// micro-batch): once the last of its group has come, the group's experts and, after the last layer,
// the logits of each of its micro-batches.
template <typename Add>
void AddGroupEnd(const PlanShape& shape, int32_t layer, int32_t micro_batch, Add add) {
  if (!shape.is_last_of_group(micro_batch)) return;
  const int32_t first = shape.first_of_group(micro_batch);
  add(TaskKind::kExperts, layer, first);
  if (layer + 1 < shape.num_layers) return;
  for (int32_t j = first; j <= micro_batch; ++j) {
    add(TaskKind::kLogits, layer, j);
    add(TaskKind::kOffloadLogits, layer, j);
  }
}

// The task, with as many micro-batches as its kind has in `shape`.
inline Task MakeTask(const PlanShape& shape, TaskKind kind, int32_t layer, int32_t micro_batch) {
  Task task = {kind, layer, micro_batch};
  if (kind == TaskKind::kExperts) task.num_micro_batches = shape.group_size(micro_batch);
  return task;
}

class PlanBuilder {
 public:
  explicit PlanBuilder(const PlanShape& shape);

  // Appends a task with an edge to the last conflicting task of every other lane. Returns its
  // index.
  int32_t Add(TaskKind kind, int32_t layer, int32_t micro_batch);
  // Makes the last task wait for `before` too.
  void AlsoAfter(int32_t before);

  // The loads of the first streamed layer, which the step before has issued if it could.
  void AddHead();
  // Loads are issued in the order of the stream. These append those that are due, as far as the
  // ring has room: a page may overwrite another only once the task that uses that one last has been
  // launched.
  //
  // The first `num_parts_due` parts after those of `layer`, that is of the layer after it or, from
  // the last layer on, of the next step.
  void LoadAhead(int32_t layer, int32_t num_parts_due);
  // All parts of `layer`.
  void LoadNow(int32_t layer);
  // Parts after those of `layer` that have room while it is in use.
  int32_t NumPartsBeside(int32_t layer) const;

  int32_t num_tasks() const { return static_cast<int32_t>(plan_.tasks.size()); }
  StepPlan Finish() { return std::move(plan_); }

 private:
  // One kLoadWeights to come.
  struct Load {
    int32_t layer = 0;
    int32_t part = 0;
    bool ahead = false;
  };
  // Who touched a resource last.
  struct Uses {
    int32_t writer = -1;
    std::array<int32_t, kNumLanes> readers = {-1, -1, -1, -1};  // since then, by lane
  };

  int32_t Append(Task task);
  bool HasRoomFor(const Load& load) const;
  // Appends the next loads while `due` holds and there is room.
  template <typename Due>
  void LoadWhile(Due due);

  const PlanShape& shape_;
  StepPlan plan_;
  absl::flat_hash_map<Resource, Uses> uses_;
  std::vector<Load> loads_;  // in stream order, without the head
  size_t next_load_ = 0;
  std::vector<int64_t> first_index_;  // of each layer's first page in the stream
  std::vector<bool> layer_used_;      // whether the layer's last kExperts has been launched
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_PLAN_BUILDER_H_
