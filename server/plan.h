// moelightd plan: what would run and where memory would go, on this machine or on one that is only
// described, without loading anything.
#ifndef MOELIGHT_SERVER_PLAN_H_
#define MOELIGHT_SERVER_PLAN_H_

#include <string>
#include <vector>

#include "server/serve.h"

namespace moelight {

// `args`: those after "plan". Returns the exit code.
int RunPlan(const std::vector<std::string>& args, const Environment& environment);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_PLAN_H_
