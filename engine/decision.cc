#include "engine/decision.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/cpu_options.h"
#include "engine/model_info.h"
#include "engine/plan_report.h"
#include "engine/policy_search.h"

namespace moelight {
namespace {

absl::Status CreateBackends(const EngineOptions& options, Decision* decision) {
  if (options.device != Engine::kSimulatedDevice) {
    ASSIGN_OR_RETURN(const BackendOptions backend_options,
                     CpuBackendOptions(options, &decision->why_not_pinned));
    ASSIGN_OR_RETURN(decision->backend, CreateDevice(options, backend_options));
    if (!decision->backend->has_device_memory()) return absl::OkStatus();
    ASSIGN_OR_RETURN(decision->host_backend, CreateBackend("cpu", backend_options));
    return absl::OkStatus();
  }
  if (options.hardware == nullptr) {
    return absl::InvalidArgumentError("a simulated machine needs a hardware profile");
  }
  ASSIGN_OR_RETURN(const DType kv_dtype, SimulatedKvFormat(options));
  SimulatedMachine machine = CreateSimulatedMachine(*options.hardware, kv_dtype);
  decision->clock = std::move(machine.clock);
  decision->backend = std::move(machine.device);
  decision->host_backend = std::move(machine.host);
  // Nothing of the machine that this runs on matters.
  if (decision->options.host_memory_bytes == 0) {
    decision->options.host_memory_bytes = options.hardware->host.memory_bytes;
  }
  return absl::OkStatus();
}

// With a policy that was given, only the prediction is new.
absl::Status EvaluateGiven(const PolicySetting& setting, const EngineOptions& given,
                           Decision* decision) {
  const absl::StatusOr<PolicyChoice> choice = EvaluatePolicy(given, setting);
  // Not one sequence of the expected length fits: others may, and nothing can be predicted.
  if (absl::IsFailedPrecondition(choice.status())) return absl::OkStatus();
  RETURN_IF_ERROR(choice.status());
  decision->prediction = MakePlanPrediction(given, setting.config, *choice);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Decision> Decide(const EngineOptions& options) {
  if (options.policy != "auto" && options.policy != "manual") {
    return absl::InvalidArgumentError(
        absl::StrCat("engine.policy: \"", options.policy, "\" is not one of auto, manual"));
  }
  Decision decision;
  decision.options = options;
  ASSIGN_OR_RETURN(decision.config, LoadModelConfigFor(options));
  RETURN_IF_ERROR(CreateBackends(options, &decision));
  const PolicySetting setting = {decision.config, *decision.backend, decision.host_backend.get()};
  const EngineOptions given = decision.options;
  if (options.hardware == nullptr || options.policy == "manual") {
    decision.options = WithFixedChoices(given);
    ASSIGN_OR_RETURN(decision.plan, MakeEnginePlan(given, decision.config, *decision.backend,
                                                   decision.host_backend.get()));
    if (options.hardware != nullptr) RETURN_IF_ERROR(EvaluateGiven(setting, given, &decision));
    return decision;
  }
  ASSIGN_OR_RETURN(PolicyChoice choice, ChoosePolicy(given, setting));
  decision.prediction = MakePlanPrediction(given, decision.config, choice);
  decision.options = std::move(choice.options);
  decision.plan = std::move(choice.plan);
  return decision;
}

PlanInfo Describe(const Decision& decision, bool pinned) {
  PlanInfo info = DescribePlan(decision.plan, *decision.backend, pinned);
  if (decision.host_backend != nullptr) {
    absl::StrAppend(&info.backend, ", attention on ", decision.host_backend->description());
  }
  info.prediction = decision.prediction;
  return info;
}

absl::StatusOr<PlanInfo> Engine::Plan(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const Decision decision, Decide(options));
  return moelight::Describe(decision, /*pinned=*/decision.backend->has_device_memory());
}

}  // namespace moelight
