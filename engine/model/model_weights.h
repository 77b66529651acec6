// ModelWeights: every weight of a model in the form the ops take, and the memory it lies in.
//
// The arena has two regions. The first holds what every token needs: embedding, norms, attention,
// routers, dense layers, LM head. The second, from a page boundary on, holds the experts: layer
// after layer (each from a page boundary), in a layer expert after expert, of each its gate_up and
// then its down matrix. So one layer's experts are one range of bytes that is streamed in pages.
// On a device with memory of its own, views of the first region point there (DeviceWeights), while
// experts keep the addresses of their home in the arena.
//
// Threads: immutable once loaded. Owns: the arena.
#ifndef MOELIGHT_ENGINE_MODEL_MODEL_WEIGHTS_H_
#define MOELIGHT_ENGINE_MODEL_MODEL_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "engine/backend/ops.h"
#include "engine/backend/weight_format.h"
#include "engine/base/tensor_view.h"
#include "engine/model/weight_arena.h"

namespace moelight {

struct LayerWeights {
  TensorView attn_norm;  // [hidden_size] f32
  WeightMatrix qkv;      // [qkv_size, hidden_size]: q rows, then k rows, then v rows
  TensorView q_norm;     // [head_dim] f32; undefined without use_qk_norm
  TensorView k_norm;     // [head_dim] f32; undefined without use_qk_norm
  WeightMatrix o;        // [hidden_size, q_size]
  TensorView ffn_norm;   // [hidden_size] f32
  // A MoE layer has the next two, a dense layer the last.
  TensorView router;                // [num_experts, hidden_size] f32
  std::vector<FfnWeights> experts;  // [num_experts]
  FfnWeights dense;
};

struct ModelWeights {
  TensorView embed;  // [vocab_size, hidden_size], WeightLayout::embedding_dtype
  std::vector<LayerWeights> layers;
  TensorView final_norm;  // [hidden_size] f32
  WeightMatrix lm_head;   // [vocab_size, hidden_size]; a packed copy of `embed` if they are tied
  int64_t bytes = 0;      // of the arena
  WeightArena arena;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_MODEL_WEIGHTS_H_
