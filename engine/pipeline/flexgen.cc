// The schedules of FlexGen (Sheng et al. 2023, algorithm 1), MoE-Lightning's baselines, with the
// kernels and the pinned memory that cgopipe has.
#include "engine/pipeline/plan_builder.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {

StepPlan BuildFlexgen(const PlanShape& shape) {
  PlanBuilder builder(shape);
  builder.AddHead();
  const int32_t n = shape.num_micro_batches;
  const int32_t num_units = n * shape.num_layers;
  const auto load_kv = [&](int32_t unit) {
    if (shape.load_kv && unit < num_units) builder.Add(TaskKind::kLoadKv, unit / n, unit % n);
  };
  for (int32_t j = 0; j < n; ++j) builder.Add(TaskKind::kEmbed, 0, j);
  load_kv(0);
  for (int32_t unit = 0; unit < num_units; ++unit) {
    const int32_t layer = unit / n;
    const int32_t j = unit % n;
    // With one micro-batch, the next one's pages are this one's, a layer on.
    load_kv(unit + 1);
    if (j == 0) builder.LoadNow(layer);
    builder.LoadAhead(layer, shape.weights.num_parts);
    builder.Add(TaskKind::kPreAttn, layer, j);
    if (shape.host_attention) {
      builder.Add(TaskKind::kOffloadQkv, layer, j);
      builder.Add(TaskKind::kAttn, layer, j);
      builder.Add(TaskKind::kLoadHidden, layer, j);
    }
    if (shape.device_attention) {
      builder.Add(TaskKind::kDeviceAttn, layer, j);
      builder.Add(TaskKind::kOffloadKv, layer, j);
    }
    builder.Add(TaskKind::kPostAttn, layer, j);
    AddGroupEnd(shape, layer, j, [&builder](TaskKind kind, int32_t at, int32_t micro_batch) {
      builder.Add(kind, at, micro_batch);
    });
  }
  builder.LoadAhead(shape.num_layers - 1, shape.weights.num_parts);
  return builder.Finish();
}

StepPlan BuildFlexgenCpu(const PlanShape& shape) {
  PlanBuilder builder(shape);
  builder.AddHead();
  const int32_t n = shape.num_micro_batches;
  // Every task but the loads of weights waits for the one before it.
  int32_t last = -1;
  const auto chain = [&](TaskKind kind, int32_t layer, int32_t j) {
    const int32_t index = builder.Add(kind, layer, j);
    builder.AlsoAfter(last);
    last = index;
  };
  for (int32_t j = 0; j < n; ++j) chain(TaskKind::kEmbed, 0, j);
  for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
    builder.LoadNow(layer);
    for (int32_t j = 0; j < n; ++j) {
      // One block, in front of the hidden states: they wait for all of it.
      builder.LoadAhead(layer, shape.weights.num_parts);
      chain(TaskKind::kPreAttn, layer, j);
      if (shape.host_attention) {
        for (TaskKind kind : {TaskKind::kOffloadQkv, TaskKind::kAttn, TaskKind::kLoadHidden}) {
          chain(kind, layer, j);
        }
      }
      if (shape.device_attention) {
        if (shape.load_kv) chain(TaskKind::kLoadKv, layer, j);
        chain(TaskKind::kDeviceAttn, layer, j);
        chain(TaskKind::kOffloadKv, layer, j);
      }
      chain(TaskKind::kPostAttn, layer, j);
      AddGroupEnd(shape, layer, j, chain);
    }
  }
  builder.LoadAhead(shape.num_layers - 1, shape.weights.num_parts);
  return builder.Finish();
}

}  // namespace moelight
