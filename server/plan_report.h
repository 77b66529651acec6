// A plan for people: tables of where tensors and memory are, the policy, lanes and what else would
// bring.
//
// Pure functions.
#ifndef MOELIGHT_SERVER_PLAN_REPORT_H_
#define MOELIGHT_SERVER_PLAN_REPORT_H_

#include <string>

#include "engine/engine.h"

namespace moelight {

std::string PlanTable(const ModelInfo& model, const PlanInfo& plan);

// One line on a run in virtual time, beside what the planner expects of it.
std::string SimulationLine(const SimulatedRun& run);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_PLAN_REPORT_H_
