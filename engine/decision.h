// Decision: everything about an engine that is settled before a weight is read: the model's shape,
// the devices, the policy and every size.
//
// Threads: one. Owns the backends, which have allocated nothing yet.
#ifndef MOELIGHT_ENGINE_DECISION_H_
#define MOELIGHT_ENGINE_DECISION_H_

#include <memory>
#include <optional>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/backend/simulated/simulated_backend.h"
#include "engine/engine.h"
#include "engine/engine_plan.h"
#include "engine/model/model_config.h"

namespace moelight {

struct Decision {
  ModelConfig config;
  absl::Status why_not_pinned;  // of compute threads that should be; OK: they are, or should not be
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Backend> host_backend;  // attends beside a GPU; null: `backend` does
  std::shared_ptr<VirtualClock> clock;    // of a simulated machine; else null
  EngineOptions options;                  // nothing is left to the policy
  EnginePlan plan;
  std::optional<PlanPrediction> prediction;  // if the hardware is known

  Backend& attention_backend() const { return host_backend != nullptr ? *host_backend : *backend; }
};

// The errors of MakeEnginePlan() and ChoosePolicy(), and of what they need.
absl::StatusOr<Decision> Decide(const EngineOptions& options);

// `pinned`: whether the system allowed to pin the host memory.
PlanInfo Describe(const Decision& decision, bool pinned);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_DECISION_H_
