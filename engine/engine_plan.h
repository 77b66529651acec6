// EnginePlan: every size of the engine, decided from options, model and backend before anything is
// allocated. `moelightd plan` prints it and Engine::Create builds it.
//
// Pure values but for one question to the kernel: how much memory is free.
#ifndef MOELIGHT_ENGINE_ENGINE_PLAN_H_
#define MOELIGHT_ENGINE_ENGINE_PLAN_H_

#include <cstdint>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/engine.h"
#include "engine/memory/expert_store.h"
#include "engine/memory/kv_cache.h"
#include "engine/memory/memory_budget.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_plan.h"
#include "engine/pipeline/activations.h"
#include "engine/pipeline/step_plan.h"
#include "engine/scheduler/scheduler.h"

namespace moelight {

struct EnginePlan {
  int32_t max_model_len = 0;
  const Schedule* schedule = nullptr;
  SchedulerOptions scheduler;
  CutOptions cut;
  ActivationShape activations;
  OpLimits op_limits;
  OpLimits host_op_limits;  // of the backend that attends on the host beside a GPU
  WeightLayout weights;
  ExpertStoreOptions experts;  // without device memory: no pages at all
  KvCacheOptions kv_cache;
  int64_t host_limit_bytes = 0;  // that the budget keeps to
  int64_t gpu_limit_bytes = 0;   // 0 without a GPU
  MemoryBudget budget;
};

// `options` with the documented fixed values in place of what is left to the policy.
EngineOptions WithFixedChoices(EngineOptions options);

// ResourceExhausted if the memory cannot hold the model and one sequence of full length, naming the
// least that would; InvalidArgument for options out of range, naming the key.
// `host_backend` attends on the host beside a backend with device memory; else null. Choices that
// are left to the policy get the fixed values. `exact_sizes`, if there, are SizeWeights() of this
// model and backend with small pages, which take milliseconds to add up.
absl::StatusOr<EnginePlan> MakeEnginePlan(const EngineOptions& options, const ModelConfig& config,
                                          const Backend& backend,
                                          const Backend* host_backend = nullptr,
                                          const WeightSizes* exact_sizes = nullptr);

// `pinned`: whether the system allowed to pin the host memory.
PlanInfo DescribePlan(const EnginePlan& plan, const Backend& backend, bool pinned);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_ENGINE_PLAN_H_
