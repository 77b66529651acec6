// ChoosePolicy: the best values for what EngineOptions leaves open, on the hardware of a profile.
//
// A policy (MoE-Lightning section 4.2) is N sequences, n micro-batches, whether these go through
// the experts one by one or in groups, where attention runs (the schedule), the share of the
// weights that is resident (what the GPU's memory leaves, after the ring of streamed pages), and
// how many prompt tokens a step takes. Every candidate is sized by the same MakeEnginePlan() that
// the engine is built from, so what is chosen fits; and predicted by the same StepPredictor that
// each step is compared with later.
//
// Not all candidates are tried: from good ones the search climbs to the best around them. There may
// be a better one elsewhere, seldom by more than a few percent.
//
// Deterministic: no clock, no random numbers. Under a second.
#ifndef MOELIGHT_ENGINE_POLICY_SEARCH_H_
#define MOELIGHT_ENGINE_POLICY_SEARCH_H_

#include <cstdint>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/engine.h"
#include "engine/engine_plan.h"
#include "engine/plan_evaluation.h"

namespace moelight {

struct PolicyChoice {
  EngineOptions options;  // nothing is left open
  EnginePlan plan;
  PlanEvaluation evaluation;
};

// What the search works on; borrowed.
struct PolicySetting {
  const ModelConfig& config;
  const Backend& backend;
  const Backend* host_backend;  // beside a backend with device memory; else null
};

// REQUIRES: options.hardware. Choices that `options` makes are kept. The errors of
// MakeEnginePlan() for the smallest candidate if none fits; InvalidArgument for an objective that
// is not known or that the profile has no figures for.
absl::StatusOr<PolicyChoice> ChoosePolicy(const EngineOptions& options,
                                          const PolicySetting& setting);

// The choice that `options` make, evaluated: nothing is searched.
absl::StatusOr<PolicyChoice> EvaluatePolicy(const EngineOptions& options,
                                            const PolicySetting& setting);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_POLICY_SEARCH_H_
