// Activations: the buffers between the tasks of a step.
//
// Threads: engine thread. Owns one arena, sized for the largest step; nothing is allocated later.
#ifndef MOELIGHT_ENGINE_PIPELINE_ACTIVATIONS_H_
#define MOELIGHT_ENGINE_PIPELINE_ACTIVATIONS_H_

#include <cstdint>
#include <memory>

#include <absl/status/statusor.h>

#include "engine/backend/ops.h"
#include "engine/memory/arena.h"
#include "engine/model/model_config.h"

namespace moelight {

struct ActivationShape {
  int64_t max_rows = 0;       // tokens of one step
  int64_t max_sequences = 0;  // of one step
  DType dtype = DType::kF32;  // Backend::activation_dtype()
};

class Activations {
 public:
  static int64_t Bytes(const ModelConfig& config, const ActivationShape& shape);
  static absl::StatusOr<std::unique_ptr<Activations>> Create(const ModelConfig& config,
                                                             const ActivationShape& shape);

  // R = max_rows, S = max_sequences. All of dtype "act" unless stated.
  TensorView hidden;       // [R, hidden_size]  the residual stream
  TensorView normed;       // [R, hidden_size]
  TensorView qkv_device;   // [R, qkv_size]
  TensorView qkv_host;     // [R, qkv_size]     staging of D1
  TensorView attn_host;    // [R, q_size]
  TensorView attn_device;  // [R, q_size]       staging of D2
  Routing routing;         // of one task: only the device lane uses it
  TensorView last_hidden;  // [S, hidden_size]  last token of each sequence
  TensorView logits;       // [S, vocab_size] f32

 private:
  Activations() = default;
  std::unique_ptr<Arena> arena_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_ACTIVATIONS_H_
