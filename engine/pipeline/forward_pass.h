// ForwardPass: what each task of a StepPlan does to the batch of the current step.
//
// Threads: engine thread. Borrows everything given to the constructor. Allocates nothing.
#ifndef MOELIGHT_ENGINE_PIPELINE_FORWARD_PASS_H_
#define MOELIGHT_ENGINE_PIPELINE_FORWARD_PASS_H_

#include <absl/status/status.h>

#include "engine/backend/backend.h"
#include "engine/memory/kv_cache.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"
#include "engine/pipeline/activations.h"
#include "engine/pipeline/executor.h"
#include "engine/scheduler/batch.h"

namespace moelight {

class ForwardPass : public TaskRunner {
 public:
  ForwardPass(const ModelConfig& config, const ModelWeights& weights, TensorView rope_inv_freq,
              Backend& backend, KvCache& kv_cache, Activations& activations);

  // The tasks that follow work on `batch`, which must be cut and must live until they ended.
  void BeginStep(const Batch* batch);
  absl::Status Run(const Task& task, Stream& stream) override;

  // Bytes that went over each link in the current step.
  int64_t h2d_bytes() const { return h2d_bytes_; }
  int64_t d2h_bytes() const { return d2h_bytes_; }

 private:
  absl::Status Embed(const MicroBatch& part, Stream& stream);
  absl::Status PreAttn(int32_t layer, const MicroBatch& part, Stream& stream);
  absl::Status OffloadQkv(const MicroBatch& part, Stream& stream);
  absl::Status Attn(int32_t layer, const MicroBatch& part, Stream& stream);
  absl::Status LoadHidden(const MicroBatch& part, Stream& stream);
  absl::Status PostAttn(int32_t layer, const MicroBatch& part, Stream& stream);
  absl::Status Logits(const MicroBatch& part, Stream& stream);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const TensorView rope_inv_freq_;  // [head_dim / 2] f32
  Backend& backend_;
  KvCache& kv_cache_;
  Activations& act_;
  const HeadGeometry heads_;
  const float attention_scale_;
  const Batch* batch_ = nullptr;
  int64_t h2d_bytes_ = 0;
  int64_t d2h_bytes_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_FORWARD_PASS_H_
