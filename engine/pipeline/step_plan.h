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
// attention, attention over the host KV cache, and everything after it.
enum class TaskKind : uint8_t {
  kEmbed,       // device compute  token ids -> hidden
  kPreAttn,     // device compute  norm, QKV projection, QK norm, rotary embedding
  kOffloadQkv,  // device -> host  num_tokens * qkv_size                               "D1"
  kAttn,        // host compute    appends K and V, attends
  kLoadHidden,  // host -> device  num_tokens * q_size                                 "D2"
  kPostAttn,    // device compute  output projection, residual, norm, router, experts
  kLogits,      // device compute  final norm and LM head for each sequence's last token
};
absl::string_view TaskKindName(TaskKind kind);
Lane TaskLane(TaskKind kind);

struct Task {
  TaskKind kind;
  int32_t layer = 0;  // 0 for kEmbed; the last layer for kLogits
  int32_t micro_batch = 0;
  // Tasks that must have ended before this one starts: indices below this task's own. The order
  // within a lane is the order of the plan and needs no edge.
  std::vector<int32_t> after;
};

struct StepPlan {
  std::vector<Task> tasks;  // in launch order
};

struct PlanShape {
  int32_t num_layers = 0;
  int32_t num_micro_batches = 0;
};

struct Schedule {
  absl::string_view name;
  absl::string_view summary;
  StepPlan (*build)(const PlanShape& shape);
};
absl::Span<const Schedule> Schedules();
// InvalidArgument with the list of names.
absl::StatusOr<const Schedule*> FindSchedule(absl::string_view name);

// No overlap at all: each task waits for the one before it. The baseline, and all that a machine
// without a second device needs.
StepPlan BuildSerial(const PlanShape& shape);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_STEP_PLAN_H_
