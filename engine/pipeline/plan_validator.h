// ValidatePlan proves, on the plan alone, that running it computes the model.
//
// What it shows: every task of the shape is there exactly once; edges point backwards (no cycle);
// each task starts after the tasks whose results it reads (RAW); any two tasks that touch the same
// buffer or ring slot, one of them writing, are ordered by lanes and edges (no WAR or WAW hazard);
// experts find their own layer's pages in the ring, and device attention its own in the staging.
// Order is the transitive closure of "same lane, launched earlier" and the edges. Between steps,
// all but the loads issued ahead has ended.
//
// Cost: O(tasks^2 / 64) bits and words. Meant for tests and for start-up, once per shape.
#ifndef MOELIGHT_ENGINE_PIPELINE_PLAN_VALIDATOR_H_
#define MOELIGHT_ENGINE_PIPELINE_PLAN_VALIDATOR_H_

#include <absl/status/status.h>

#include "engine/pipeline/step_plan.h"

namespace moelight {

// InvalidArgument naming the two tasks and the rule.
absl::Status ValidatePlan(const StepPlan& plan, const PlanShape& shape);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_PLAN_VALIDATOR_H_
