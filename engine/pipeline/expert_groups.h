// Which micro-batches of a step go through a layer's experts together.
//
// Pure; thread-safe.
#ifndef MOELIGHT_ENGINE_PIPELINE_EXPERT_GROUPS_H_
#define MOELIGHT_ENGINE_PIPELINE_EXPERT_GROUPS_H_

#include <cstdint>

#include <absl/functional/function_ref.h>

namespace moelight {

// PlanShape::micro_batches_per_group for `num_micro_batches` with `num_rows`(j) rows each: half of
// them, so that the CPU attends one group while the GPU runs the experts of the other; fewer if a
// group would have more than `max_group_rows`. 1 if that is 0, and if there are no more than two.
int32_t MicroBatchesPerGroup(int32_t num_micro_batches, int64_t max_group_rows,
                             absl::FunctionRef<int64_t(int32_t)> num_rows);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_EXPERT_GROUPS_H_
