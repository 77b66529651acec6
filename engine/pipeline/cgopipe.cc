// CGOPipe (MoE-Lightning section 4.1 and algorithm 1). Launch order for micro-batch j of layer i:
//
//   D2(i,j) -> weight pages of layer i+1 -> PostAttn(i,j) -> PreAttn two micro-batches ahead
//   -> its D1 -> its attention
//
// In steady state the GPU runs PostAttn(j) and PreAttn(j+2) while the CPU attends j+1, and D2 waits
// for no more than its slot's share of pages. The next step's first layer is loaded ahead, so that
// the link does not stand still while tokens are sampled.
#include <algorithm>

#include "engine/pipeline/plan_builder.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {
namespace {

// PreAttn runs this many micro-batches before PostAttn: one for the CPU to attend meanwhile, one
// whose hidden states are on the link.
constexpr int32_t kPreAttnLead = 2;

// What prompts attend to of earlier steps. Issued before the weights of a slot: behind them it would
// reach the GPU with the last page of its layer, and the GPU could only begin where the link ends.
void LoadKv(const PlanShape& shape, int32_t unit, PlanBuilder* builder) {
  if (!shape.load_kv) return;
  builder->Add(TaskKind::kLoadKv, unit / shape.num_micro_batches, unit % shape.num_micro_batches);
}

void StartAttention(const PlanShape& shape, int32_t unit, PlanBuilder* builder) {
  const int32_t layer = unit / shape.num_micro_batches;
  const int32_t j = unit % shape.num_micro_batches;
  builder->Add(TaskKind::kPreAttn, layer, j);
  if (shape.host_attention) {
    builder->Add(TaskKind::kOffloadQkv, layer, j);
    builder->Add(TaskKind::kAttn, layer, j);
  }
  if (shape.device_attention) {
    builder->Add(TaskKind::kDeviceAttn, layer, j);
    builder->Add(TaskKind::kOffloadKv, layer, j);
  }
}

}  // namespace

StepPlan BuildCgopipe(const PlanShape& shape) {
  PlanBuilder builder(shape);
  builder.AddHead();
  const int32_t n = shape.num_micro_batches;
  const int32_t num_units = n * shape.num_layers;
  const int32_t lead = std::min(kPreAttnLead, n);
  for (int32_t j = 0; j < n; ++j) builder.Add(TaskKind::kEmbed, 0, j);
  for (int32_t unit = 0; unit < lead; ++unit) {
    LoadKv(shape, unit, &builder);
    StartAttention(shape, unit, &builder);
  }
  // Where the ring holds less than two layers, only some of the next one's parts have room before
  // this one has been used. They are spread over the micro-batches, or the first hidden states
  // would have all of them in front of them and the link nothing to do behind the last.
  int32_t num_parts_beside = 0;
  for (int32_t unit = 0; unit < num_units; ++unit) {
    const int32_t layer = unit / n;
    const int32_t j = unit % n;
    if (j == 0) {
      builder.LoadNow(layer);
      num_parts_beside = builder.NumPartsBeside(layer);
    }
    if (shape.host_attention) builder.Add(TaskKind::kLoadHidden, layer, j);
    if (unit + lead < num_units) LoadKv(shape, unit + lead, &builder);
    builder.LoadAhead(layer, num_parts_beside * (j + 1) / n);
    builder.Add(TaskKind::kPostAttn, layer, j);
    if (layer + 1 == shape.num_layers) {
      builder.Add(TaskKind::kLogits, layer, j);
      builder.Add(TaskKind::kOffloadLogits, layer, j);
    }
    if (unit + lead < num_units) StartAttention(shape, unit + lead, &builder);
  }
  // What the ring had no room for before the last layer was used.
  builder.LoadAhead(shape.num_layers - 1, shape.weights.num_parts);
  return builder.Finish();
}

}  // namespace moelight
