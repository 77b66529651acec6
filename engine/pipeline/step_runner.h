// StepRunner: runs one Batch through the model and gives its logits.
//
// Threads: engine thread. Owns the activations, the plans (one per number of micro-batches, built
// and validated on first use) and the executor; borrows model, backend and KV cache.
#ifndef MOELIGHT_ENGINE_PIPELINE_STEP_RUNNER_H_
#define MOELIGHT_ENGINE_PIPELINE_STEP_RUNNER_H_

#include <memory>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/memory/kv_cache.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"
#include "engine/pipeline/activations.h"
#include "engine/pipeline/executor.h"
#include "engine/pipeline/forward_pass.h"
#include "engine/pipeline/step_plan.h"
#include "engine/scheduler/batch.h"

namespace moelight {

struct StepRunnerOptions {
  const Schedule* schedule = nullptr;
  int32_t num_micro_batches = 1;
  ActivationShape activations;
};

struct StepResult {
  LaneTimes times;
  int64_t h2d_bytes = 0;
  int64_t d2h_bytes = 0;
};

class StepRunner {
 public:
  static absl::StatusOr<std::unique_ptr<StepRunner>> Create(const StepRunnerOptions& options,
                                                            const ModelConfig& config,
                                                            const ModelWeights& weights,
                                                            Backend& backend, KvCache& kv_cache);

  // Blocks until the step has ended. Cuts `batch` into micro-batches.
  absl::StatusOr<StepResult> Run(Batch* batch);

  // Logits of the batch's i-th sequence after its last token: [vocab_size], until the next Run. May
  // be overwritten by the caller.
  absl::Span<float> logits(int32_t i);

 private:
  StepRunner(const StepRunnerOptions& options, const ModelConfig& config,
             const ModelWeights& weights, Backend& backend, KvCache& kv_cache,
             std::unique_ptr<Activations> activations);
  absl::StatusOr<const StepPlan*> PlanFor(int32_t num_micro_batches);

  const StepRunnerOptions options_;
  const ModelConfig& config_;
  std::vector<float> rope_inv_freq_;  // [head_dim / 2]
  std::unique_ptr<Activations> activations_;
  ForwardPass forward_pass_;
  Executor executor_;
  std::vector<std::unique_ptr<StepPlan>> plans_;  // by number of micro-batches
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_STEP_RUNNER_H_
