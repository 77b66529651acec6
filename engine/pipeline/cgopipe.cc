// CGOPipe (MoE-Lightning section 4.1 and algorithm 1). Launch order for group g of layer i:
//
//   for each of its micro-batches j: D2(i,j) -> PostAttn(i,j); in front of the last PostAttn the
//   group's share of the weight pages of layer i+1
//   -> Experts(i,g)
//   -> for each micro-batch of the group two ahead: PreAttn -> its D1 -> its attention
//
// In the paper a group is one micro-batch: in steady state the GPU runs PostAttn(j), Experts(j) and
// PreAttn(j+2) while the CPU attends j+1, and D2 waits for no more than its slot's share of pages.
// With two groups of many, the same alternation is one between groups: the GPU runs the experts of
// one, once, while the CPU attends the micro-batches of the other, whose queries come and whose
// results leave one micro-batch at a time. Then the pages go behind the last D2 of a group, not
// between them: the experts wait for all of the group's hidden states, and the next pages for the
// experts of the layer that they overwrite. Spread evenly, the link stood still while those of the
// last group ran (a T4 with 8 micro-batches: 11 % of a step).
//
// The next step's first layer is loaded ahead, so that the link does not stand still while tokens
// are sampled.
#include <algorithm>

#include "engine/pipeline/plan_builder.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {
namespace {

// PreAttn runs this many groups before PostAttn: one for the CPU to attend meanwhile, one whose
// hidden states are on the link.
constexpr int32_t kPreAttnLead = 2;

// What prompts attend to of earlier steps, for the first micro-batches of a group: as many as there
// are staging copies. Issued before the weights of a slot: behind them it would reach the GPU with
// the last page of its layer, and the GPU could only begin where the link ends.
void LoadFirstKv(const PlanShape& shape, int32_t unit, PlanBuilder* builder) {
  if (!shape.load_kv) return;
  const int32_t first = unit % shape.num_groups() * shape.micro_batches_per_group;
  const int32_t count = std::min(kNumKvStagings, shape.group_size(first));
  for (int32_t j = first; j < first + count; ++j) {
    builder->Add(TaskKind::kLoadKv, unit / shape.num_groups(), j);
  }
}

void StartAttention(const PlanShape& shape, int32_t layer, int32_t j, PlanBuilder* builder) {
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

// Of a group's micro-batches; groups are counted over all layers.
void StartGroup(const PlanShape& shape, int32_t unit, PlanBuilder* builder) {
  const int32_t first = unit % shape.num_groups() * shape.micro_batches_per_group;
  const int32_t layer = unit / shape.num_groups();
  for (int32_t j = first; j < first + shape.group_size(first); ++j) {
    if (shape.load_kv && j >= first + kNumKvStagings) builder->Add(TaskKind::kLoadKv, layer, j);
    StartAttention(shape, layer, j, builder);
  }
}

}  // namespace

StepPlan BuildCgopipe(const PlanShape& shape) {
  PlanBuilder builder(shape);
  builder.AddHead();
  const int32_t n = shape.num_micro_batches;
  const int32_t num_units = shape.num_groups() * shape.num_layers;
  const int32_t lead = std::min(kPreAttnLead, shape.num_groups());
  const auto add = [&builder](TaskKind kind, int32_t layer, int32_t j) {
    builder.Add(kind, layer, j);
  };
  for (int32_t j = 0; j < n; ++j) add(TaskKind::kEmbed, 0, j);
  for (int32_t unit = 0; unit < lead; ++unit) {
    LoadFirstKv(shape, unit, &builder);
    StartGroup(shape, unit, &builder);
  }
  int32_t next_unit = lead;
  for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
    builder.LoadNow(layer);
    // Where the ring holds less than two layers, only some of the next one's parts have room before
    // this one has been used. They are spread over the groups, or the first hidden states would
    // have all of them in front of them and the link nothing to do behind the last.
    const int32_t num_parts_beside = builder.NumPartsBeside(layer);
    for (int32_t j = 0; j < n; ++j) {
      if (shape.host_attention) add(TaskKind::kLoadHidden, layer, j);
      if (shape.is_last_of_group(j)) {
        if (next_unit < num_units) LoadFirstKv(shape, next_unit, &builder);
        builder.LoadAhead(layer, num_parts_beside * (j + 1) / n);
      }
      add(TaskKind::kPostAttn, layer, j);
      AddGroupEnd(shape, layer, j, add);
      if (!shape.is_last_of_group(j) || next_unit == num_units) continue;
      StartGroup(shape, next_unit++, &builder);
    }
  }
  // What the ring had no room for before the last layer was used.
  builder.LoadAhead(shape.num_layers - 1, shape.weights.num_parts);
  return builder.Finish();
}

}  // namespace moelight
