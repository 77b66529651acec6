// StepRunner: runs one Batch through the model and gives its logits.
//
// Threads: engine thread. Owns the activations, the plans (one per shape, built and validated on
// first use) and the executor; borrows model, backends and KV cache.
#ifndef MOELIGHT_ENGINE_PIPELINE_STEP_RUNNER_H_
#define MOELIGHT_ENGINE_PIPELINE_STEP_RUNNER_H_

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/pipeline/activations.h"
#include "engine/pipeline/executor.h"
#include "engine/pipeline/forward_pass.h"
#include "engine/pipeline/step_plan.h"
#include "engine/scheduler/batch.h"

namespace moelight {

struct StepRunnerOptions {
  const Schedule* schedule = nullptr;
  CutOptions cut;
  ActivationShape activations;
};

// A built plan and what it was built for.
struct ShapedPlan {
  PlanShape shape;
  StepPlan plan;
};

struct StepResult {
  LaneTimes times;
  // What ran, and when each task did; until the next Run().
  const ShapedPlan* plan = nullptr;
  absl::Span<const TaskTiming> timings;
  int64_t h2d_bytes = 0;
  int64_t d2h_bytes = 0;
};

class StepRunner {
 public:
  static absl::StatusOr<std::unique_ptr<StepRunner>> Create(const StepRunnerOptions& options,
                                                            const ForwardPassParts& parts);

  // Blocks until the step has ended. Cuts `batch` into micro-batches, which orders its sequences.
  absl::StatusOr<StepResult> Run(Batch* batch);

  // Tokens that the last layer's router gave each expert since the start: [num_experts], or empty
  // for a dense last layer.
  const std::vector<int64_t>& expert_counts() const { return forward_pass_.expert_counts(); }

  // Logits of the batch's i-th output after its last token: [vocab_size], until the next Run. May
  // be overwritten by the caller.
  absl::Span<float> logits(int32_t i);

 private:
  using PlanKey = std::tuple<int32_t /*micro-batches*/, int32_t /*of a group*/,
                             bool /*host attention*/, bool /*device attention*/, bool /*load KV*/>;

  StepRunner(const StepRunnerOptions& options, const ForwardPassParts& parts,
             std::unique_ptr<Activations> activations);
  absl::StatusOr<const ShapedPlan*> PlanFor(const Batch& batch);

  const StepRunnerOptions options_;
  const ForwardPassParts parts_;
  const WeightStream weight_stream_;
  std::unique_ptr<Activations> activations_;
  ForwardPass forward_pass_;
  Executor executor_;
  std::map<PlanKey, std::unique_ptr<ShapedPlan>> plans_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_STEP_RUNNER_H_
