// The Router op of the cpu backend: fp32 throughout, because a rounded logit changes the expert.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ROUTER_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ROUTER_H_

#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/ops.h"

namespace moelight {

int64_t RouterWorkerScratchBytes(int64_t num_experts);
void RunRouter(const RouterArgs& args, CpuContext& context);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ROUTER_H_
