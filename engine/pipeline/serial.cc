#include "engine/pipeline/plan_builder.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {

StepPlan BuildSerial(const PlanShape& shape) {
  StepPlan plan;
  const auto add = [&plan](Task task) {
    if (!plan.tasks.empty()) task.after.push_back(static_cast<int32_t>(plan.tasks.size()) - 1);
    plan.tasks.push_back(std::move(task));
  };
  const int32_t n = shape.num_micro_batches;
  for (int32_t j = 0; j < n; ++j) add({TaskKind::kEmbed, 0, j});
  for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
    const int32_t num_parts = shape.weights.streams(layer) ? shape.weights.num_parts : 0;
    for (int32_t part = 0; part < num_parts; ++part) {
      add({TaskKind::kLoadWeights, layer, 0, part});
    }
    for (int32_t j = 0; j < n; ++j) {
      add({TaskKind::kPreAttn, layer, j});
      if (shape.host_attention) {
        for (TaskKind kind : {TaskKind::kOffloadQkv, TaskKind::kAttn, TaskKind::kLoadHidden}) {
          add({kind, layer, j});
        }
      }
      if (shape.device_attention) {
        if (shape.load_kv) add({TaskKind::kLoadKv, layer, j});
        add({TaskKind::kDeviceAttn, layer, j});
        add({TaskKind::kOffloadKv, layer, j});
      }
      add({TaskKind::kPostAttn, layer, j});
      AddGroupEnd(shape, layer, j, [&](TaskKind kind, int32_t at, int32_t micro_batch) {
        add(MakeTask(shape, kind, at, micro_batch));
      });
    }
  }
  return plan;
}

}  // namespace moelight
