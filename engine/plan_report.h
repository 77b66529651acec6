// What is said about a plan: PlanInfo with what the planner expects of it and what else would
// bring.
//
// Threads: pure functions.
#ifndef MOELIGHT_ENGINE_PLAN_REPORT_H_
#define MOELIGHT_ENGINE_PLAN_REPORT_H_

#include "engine/engine.h"
#include "engine/policy_search.h"

namespace moelight {

// `options`: as given, before the choice. What else would bring is searched on a simulated machine
// with more of each resource: about ten searches.
PlanPrediction MakePlanPrediction(const EngineOptions& options, const ModelConfig& config,
                                  const PolicyChoice& choice);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PLAN_REPORT_H_
