// PlanEvaluator: what an EnginePlan would give on the hardware of a profile, for a workload.
//
// A long job under continuous batching: every sequence takes `num_output_tokens` steps, and the
// prompts of those that follow ride along in all of them, with what is computed again because pages
// ran out. Without mixed steps, prompts have steps of their own in between.
//
// Threads: one. Keeps the plans of the shapes seen, since building one takes longer than predicting
// with it.
#ifndef MOELIGHT_ENGINE_PLAN_EVALUATION_H_
#define MOELIGHT_ENGINE_PLAN_EVALUATION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "engine/engine.h"
#include "engine/engine_plan.h"
#include "engine/planner/step_predictor.h"

namespace moelight {

struct PlanEvaluation {
  int64_t num_sequences = 0;      // running at once: as many as places and KV pages allow
  StepPrediction decode;          // a step of decode tokens only
  StepPrediction mixed;           // a step with the prompts that a steady stream brings
  int64_t num_micro_batches = 0;  // of the decode step
  double tokens_per_s = 0;        // generated, over a job of kWavesPerJob times num_sequences
  double bound_tokens_per_s = 0;  // if all pages were in use and nothing ever waited
  double joules_per_token = 0;    // 0: not known
};

// What the steps of a steady stream of requests carry.
struct SteadyLoad {
  double num_sequences = 0;               // with one decode token each
  double mean_context = 0;                // of those
  double prompt_tokens_per_sequence = 0;  // over its life, what is computed again included
};

class PlanEvaluator {
 public:
  // A job that is ten times as large as the batch spends a twentieth of the first ramp in vain.
  static constexpr double kWavesPerJob = 10;

  PlanEvaluator(const ModelConfig& config, const HardwareProfile& profile)
      : config_(config), profile_(profile) {}

  // FailedPrecondition if not one sequence of the workload fits.
  absl::StatusOr<PlanEvaluation> Evaluate(const EnginePlan& plan, const WorkloadHint& workload);

 private:
  using PlanKey = std::tuple<const Schedule*, int32_t /*micro-batches*/, int32_t /*of a group*/,
                             bool /*host attention*/, bool /*device attention*/, bool /*load KV*/,
                             int64_t /*pages*/, int64_t /*ring slots*/>;
  const StepPlan& PlanFor(const Schedule& schedule, const PlanShape& shape);
  static SteadyLoad SteadyLoadOf(const EnginePlan& plan, const WorkloadHint& workload);
  StepPrediction PredictMixed(const EnginePlan& plan, const SteadyLoad& steady,
                              const WorkloadHint& workload, const StepPredictor& predictor);
  StepPrediction PredictLoad(const EnginePlan& plan, const StepLoad& load,
                             const StepPredictor& predictor);

  const ModelConfig& config_;
  const HardwareProfile& profile_;
  std::map<PlanKey, StepPlan> plans_;
};

// Sequences of the workload that the pages hold at once, each at its mean length; 0: not one.
double PageLimitedSequences(const EnginePlan& plan, const WorkloadHint& workload);

StorageFormats FormatsOf(const EnginePlan& plan);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PLAN_EVALUATION_H_
