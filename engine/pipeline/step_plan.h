// StepPlan: the work of one step as data. Builders make it, the validator proves it, the Executor
// runs it on any backend.
//
// Pure values: no device, no clock, no threads. A new schedule is one file with a builder and one
// row in step_plan.cc; there is never a second loop that runs tasks.
#ifndef MOELIGHT_ENGINE_PIPELINE_STEP_PLAN_H_
#define MOELIGHT_ENGINE_PIPELINE_STEP_PLAN_H_

#include <cstdint>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/base/lane.h"

namespace moelight {

// A layer is cut where its data changes sides (MoE-Lightning section 4.1): the projections before
// attention, attention, and everything after it; and once more before the experts, whose weights
// are read anew for every call, so that several micro-batches may share one. The rows of a
// micro-batch attend on the host, over the KV cache there, or on the device, over a staging copy of
// their pages.
enum class TaskKind : uint8_t {
  kEmbed,          // device compute  token ids -> hidden
  kPreAttn,        // device compute  norm, QKV projection, QK norm, rotary embedding
  kOffloadQkv,     // device -> host  qkv of the rows that attend on the host            "D1"
  kAttn,           // host compute    appends K and V, attends
  kLoadHidden,     // host -> device  its result                                         "D2"
  kLoadKv,         // host -> device  KV pages of the rows that attend on the device     "D4"
  kDeviceAttn,     // device compute  appends K and V to the staging pages, attends
  kOffloadKv,      // device -> host  staging pages with new K and V -> KV cache
  kPostAttn,       // device compute  output projection, residual
  kExperts,        // device compute  norm, router, experts or dense FFN, of a group's rows
  kLoadWeights,    // host -> device  one part of a layer's streamed expert pages        "D3"
  kLogits,         // device compute  final norm and LM head for each sequence's last token
  kOffloadLogits,  // device -> host  their result
};
inline constexpr int kNumTaskKinds = 13;
absl::string_view TaskKindName(TaskKind kind);
Lane TaskLane(TaskKind kind);

struct Task {
  TaskKind kind;
  int32_t layer = 0;        // 0 for kEmbed; the last layer for kLogits and kOffloadLogits
  int32_t micro_batch = 0;  // of kExperts: the first of its group; 0 for kLoadWeights
  int32_t part = 0;         // of kLoadWeights
  // A kLoadWeights of the next step's first streamed layer, issued ahead. The next step has it as
  // one of its first tasks and does not issue it again.
  bool ahead = false;
  // Tasks that must have ended before this one starts: indices below this task's own. The order
  // within a lane is the order of the plan and needs no edge.
  std::vector<int32_t> after = {};
  // It works on these many micro-batches, whose rows are consecutive: 1 but for kExperts.
  int32_t num_micro_batches = 1;
};

struct StepPlan {
  std::vector<Task> tasks;  // in launch order
  // The first tasks, all kLoadWeights of the first streamed layer, which the step before issued
  // ahead if it had tasks marked so; both in the order of parts.
  int32_t num_head_tasks = 0;
};

// The expert pages that a step streams, in order, and the ring of device memory that they go round.
struct WeightStream {
  std::vector<int64_t> layer_pages;  // streamed pages of each layer; empty: nothing is streamed
  int64_t num_ring_slots = 0;        // at least the pages of any layer
  int32_t num_parts = 0;             // kLoadWeights tasks per layer that has streamed pages

  bool streams(int32_t layer) const { return !layer_pages.empty() && layer_pages[layer] > 0; }
  int32_t first_layer() const;               // that streams; -1: none
  int64_t first_index(int32_t layer) const;  // of its first page in the stream of one step
  int64_t num_pages() const;                 // of one step
  // Pages [begin, end) of the layer's streamed pages that make up a part; may be empty.
  int64_t part_begin(int32_t layer, int32_t part) const {
    return layer_pages[layer] * part / num_parts;
  }
  int64_t part_end(int32_t layer, int32_t part) const { return part_begin(layer, part + 1); }
};

struct PlanShape {
  int32_t num_layers = 0;
  int32_t num_micro_batches = 0;
  bool host_attention = true;     // some rows attend on the host
  bool device_attention = false;  // some rows attend on the device
  bool load_kv = false;           // of those, some have cached positions
  WeightStream weights;
  // Micro-batches that go through a layer's experts together: group g has
  // [g * per_group, min(n, (g + 1) * per_group)). 1: each goes alone.
  int32_t micro_batches_per_group = 1;

  int32_t num_groups() const;
  int32_t first_of_group(int32_t micro_batch) const {
    return micro_batch - micro_batch % micro_batches_per_group;
  }
  // Of the group that `micro_batch` is in.
  int32_t group_size(int32_t micro_batch) const;
  bool is_last_of_group(int32_t micro_batch) const {
    return micro_batch + 1 == first_of_group(micro_batch) + group_size(micro_batch);
  }
};

// Staging pages of the device exist twice, so that the next micro-batch's can be filled while one's
// are in use; across the end of a layer too.
inline constexpr int32_t kNumKvStagings = 2;
inline int32_t KvStagingOf(const Task& task, int32_t num_micro_batches) {
  return (task.layer * num_micro_batches + task.micro_batch) % kNumKvStagings;
}

struct Schedule {
  absl::string_view name;
  absl::string_view summary;
  bool decode_on_device;  // decode rows attend on the device too
  // The policy may choose groups of micro-batches; the baselines stay as they were published. All
  // builders can make them.
  bool policy_coalesces;
  StepPlan (*build)(const PlanShape& shape);
};
absl::Span<const Schedule> Schedules();
// InvalidArgument with the list of names.
absl::StatusOr<const Schedule*> FindSchedule(absl::string_view name);

// The paper's schedule: all lanes overlapped, weights in pages between the hidden states.
StepPlan BuildCgopipe(const PlanShape& shape);
// No overlap at all: each task waits for the one before it. The baseline, and all that a machine
// without a second device needs.
StepPlan BuildSerial(const PlanShape& shape);
// FlexGen's: attention on the device, KV streamed one micro-batch ahead, the next layer's weights
// in one block.
StepPlan BuildFlexgen(const PlanShape& shape);
// FlexGen's with attention on the CPU, which nothing overlaps but the one block of weights.
StepPlan BuildFlexgenCpu(const PlanShape& shape);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_STEP_PLAN_H_
