#include "engine/pipeline/step_plan.h"

namespace moelight {

StepPlan BuildSerial(const PlanShape& shape) {
  StepPlan plan;
  plan.tasks.reserve(shape.num_micro_batches * (2 + 5 * shape.num_layers));
  auto add = [&plan](TaskKind kind, int32_t layer, int32_t micro_batch) {
    Task task{kind, layer, micro_batch, {}};
    if (!plan.tasks.empty()) task.after.push_back(static_cast<int32_t>(plan.tasks.size()) - 1);
    plan.tasks.push_back(task);
  };
  for (int32_t j = 0; j < shape.num_micro_batches; ++j) {
    add(TaskKind::kEmbed, 0, j);
    for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
      for (TaskKind kind : {TaskKind::kPreAttn, TaskKind::kOffloadQkv, TaskKind::kAttn,
                            TaskKind::kLoadHidden, TaskKind::kPostAttn}) {
        add(kind, layer, j);
      }
    }
    add(TaskKind::kLogits, shape.num_layers - 1, j);
  }
  return plan;
}

}  // namespace moelight
