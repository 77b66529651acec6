// ForwardPass: what each task of a StepPlan does to the batch of the current step.
//
// Threads: engine thread; attention on the host runs where the cpu lane's stream runs host work.
// Borrows everything given to the constructor. Allocates nothing.
#ifndef MOELIGHT_ENGINE_PIPELINE_FORWARD_PASS_H_
#define MOELIGHT_ENGINE_PIPELINE_FORWARD_PASS_H_

#include <memory>
#include <vector>

#include <absl/status/status.h>

#include "engine/backend/backend.h"
#include "engine/memory/expert_store.h"
#include "engine/memory/kv_cache.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"
#include "engine/pipeline/activations.h"
#include "engine/pipeline/executor.h"
#include "engine/pipeline/staged_copy.h"
#include "engine/scheduler/batch.h"

namespace moelight {

// What the tasks work with; all outlive the ForwardPass.
struct ForwardPassParts {
  const ModelConfig& config;
  const ModelWeights& weights;
  ExpertStore* experts;  // null: experts are read where `weights` says
  Backend& device;       // all ops but attention on the host
  Backend& host;         // attention on the host; may be `device`
  KvCache& kv_cache;
  StagedCopy* staged_copy = nullptr;  // set: streamed weights are not pinned and go through it
};

class ForwardPass : public TaskRunner {
 public:
  // `stream` is the weights' stream of every plan that will run.
  ForwardPass(const ForwardPassParts& parts, const WeightStream& stream, Activations& activations);

  // The tasks that follow work on `batch`, which must be cut and must live until they ended.
  void BeginStep(const Batch* batch);
  absl::Status Run(const Task& task, Stream& stream) override;
  // All its tasks have ended: counts what the last layer routed where.
  void EndStep();

  // Tokens that the last layer's router gave each expert, of all steps: [num_experts], or empty if
  // that layer is dense.
  const std::vector<int64_t>& expert_counts() const { return expert_counts_; }
  // Bytes that went over each link in the current step.
  int64_t h2d_bytes() const { return h2d_bytes_; }
  int64_t d2h_bytes() const { return d2h_bytes_; }

 private:
  using TaskMethod = absl::Status (ForwardPass::*)(const Task& task, const MicroBatch& part,
                                                   Stream& stream);
  static TaskMethod MethodOf(TaskKind kind);

  absl::Status Embed(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status PreAttn(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status OffloadQkv(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status Attn(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status LoadHidden(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status LoadKv(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status DeviceAttn(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status OffloadKv(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status PostAttn(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status Experts(const Task& task, const MicroBatch& first, Stream& stream);
  absl::Status LoadWeights(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status Logits(const Task& task, const MicroBatch& part, Stream& stream);
  absl::Status OffloadLogits(const Task& task, const MicroBatch& part, Stream& stream);

  // Attention of the host's rows of a micro-batch, now.
  absl::Status AttendOnHost(int32_t layer, int32_t micro_batch);
  absl::Status Moe(int32_t layer, const TensorView& normed, const TensorView& hidden,
                   Stream& stream);
  // Keeps what the last layer routed where.
  absl::Status KeepExpertOffsets(Stream& stream);
  AttentionArgs AttentionArgsOf(const TensorView& qkv, const TensorView& out) const;
  const KvLayerView& staging(const Task& task) const {
    return act_.kv_staging[KvStagingOf(task, static_cast<int32_t>(batch_->micro_batches().size()))];
  }
  int64_t kv_page_bytes() const { return parts_.kv_cache.options().page_bytes_per_layer(); }

  const ForwardPassParts parts_;
  const WeightStream& weight_stream_;
  Activations& act_;
  const HeadGeometry heads_;
  const float attention_scale_;
  const std::unique_ptr<Stream> host_stream_;  // of `host`, for what runs on the cpu lane
  const Batch* batch_ = nullptr;
  std::vector<int64_t> expert_counts_;
  int32_t num_kept_offsets_ = 0;  // rows of act_.expert_offsets, one for each group
  int64_t h2d_bytes_ = 0;
  int64_t d2h_bytes_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_FORWARD_PASS_H_
