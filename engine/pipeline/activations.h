// Activations: the buffers between the tasks of a step.
//
// Threads: engine thread. Owns two arenas, one in device memory and one in pinned host memory,
// sized for the largest step; nothing is allocated later. On a backend without device memory both
// are host memory, and what would only be copied from one to the other is there once.
#ifndef MOELIGHT_ENGINE_PIPELINE_ACTIVATIONS_H_
#define MOELIGHT_ENGINE_PIPELINE_ACTIVATIONS_H_

#include <array>
#include <cstdint>
#include <memory>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/backend/ops.h"
#include "engine/memory/arena.h"
#include "engine/model/model_config.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {

struct ActivationShape {
  int64_t max_rows = 0;              // tokens of one step
  int64_t max_micro_batch_rows = 0;  // of one micro-batch, or of one group of them
  int64_t max_sequences = 0;         // of one step
  DType dtype = DType::kF32;         // Backend::activation_dtype()
  // Of the KV pages that one micro-batch's device attention works on; 0: none does.
  int64_t num_staging_pages = 0;
  int32_t kv_page_tokens = 0;
  DType kv_dtype = DType::kBF16;
};

struct ActivationSizes {
  int64_t device_bytes = 0;
  int64_t host_bytes = 0;  // pinned
};

class Activations {
 public:
  static ActivationSizes Sizes(const ModelConfig& config, const ActivationShape& shape);
  // Fills rope_inv_freq too.
  static absl::StatusOr<std::unique_ptr<Activations>> Create(const ModelConfig& config,
                                                             const ActivationShape& shape,
                                                             Backend& backend);

  // R = max_rows, M = max_micro_batch_rows, S = max_sequences. All of dtype "act" unless stated.
  // In device memory:
  TensorView hidden;         // [R, hidden_size]  the residual stream
  TensorView normed;         // [M, hidden_size]  of one task: only the device lane uses it
  TensorView qkv_device;     // [R, qkv_size]
  TensorView attn_device;    // [R, q_size]       D2's target, and device attention's
  Routing routing;           // of one task: only the device lane uses it
  TensorView last_hidden;    // [S, hidden_size]  last token of each sequence
  TensorView logits_device;  // [S, vocab_size] f32
  TensorView rope_inv_freq;  // [head_dim / 2] f32
  std::array<KvLayerView, kNumKvStagings> kv_staging;
  // In host memory:
  TensorView qkv_host;        // [R, qkv_size]   D1's target
  TensorView attn_host;       // [R, q_size]
  TensorView logits;          // [S, vocab_size] f32; logits_device itself without device memory
  TensorView expert_offsets;  // [S, num_experts + 1] i32: by group, of the last layer's routing

 private:
  Activations() = default;
  std::unique_ptr<Arena> device_;
  std::unique_ptr<Arena> host_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_ACTIVATIONS_H_
