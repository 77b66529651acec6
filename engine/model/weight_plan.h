// WeightPlan: where every weight goes and which rows of which tensor it is made of, decided before
// anything is allocated or read.
//
// One function places all weights. Run without memory it gives the exact size of the arena and the
// tensors to check; run on the arena it gives the views of ModelWeights and the parts to fill.
//
// Threads: pure functions.
#ifndef MOELIGHT_ENGINE_MODEL_WEIGHT_PLAN_H_
#define MOELIGHT_ENGINE_MODEL_WEIGHT_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/backend/weight_format.h"
#include "engine/base/tensor_view.h"
#include "engine/model/architectures.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"

namespace moelight {

// How weights are stored: Backend::weight_format(), expert_format() and embedding_dtype(). Norms
// and routers are f32 everywhere.
struct WeightLayout {
  const WeightFormat* matrix_format = nullptr;
  DType embedding_dtype = DType::kF32;          // f32 or bf16
  const WeightFormat* expert_format = nullptr;  // null: matrix_format
  int64_t expert_page_bytes =
      4096;  // each layer's experts begin at a multiple of it; a power of two
};

// What a tensor does in the model; sets the scale of dummy weights.
enum class TensorRole : uint8_t {
  kEmbed,
  kNorm,
  kFinalNorm,
  kProjection,       // reads a normalized hidden state: q, k, v, gate, up
  kAttentionOutput,  // adds to the hidden state
  kFfnOutput,        // adds to the hidden state
  kRouter,
  kLmHead,
};

// Rows of one checkpoint tensor and the rows of a stored tensor that they become. A tensor of any
// rank is taken as a matrix whose columns are its last dimension.
struct WeightPart {
  std::string tensor;
  TensorRole role = TensorRole::kNorm;
  std::vector<int64_t> shape;  // that the tensor must have
  int64_t source_row = 0;      // first of the rows
  int64_t num_rows = 0;
  int64_t num_cols = 0;

  char* stored = nullptr;                // the whole stored tensor; null in a plan without memory
  const WeightFormat* format = nullptr;  // null: plain rows of `dtype`
  DType dtype = DType::kF32;             // of plain rows
  int64_t stored_row = 0;                // where the first row goes
  int64_t stored_num_rows = 0;           // of the whole stored tensor
};

struct WeightPlan {
  ModelWeights weights;  // without the arena; views are null in a plan without memory
  std::vector<WeightPart> parts;
};

// Exact sizes of the two regions of ModelWeights: every tensor in its stored form, and the gaps
// between them.
struct WeightSizes {
  int64_t common_bytes = 0;                 // a multiple of expert_page_bytes
  int64_t expert_bytes = 0;                 // with each layer rounded up to whole pages
  std::vector<int64_t> layer_expert_bytes;  // of each layer, rounded so; 0 for a dense layer

  int64_t bytes() const { return common_bytes + expert_bytes; }
};
WeightSizes SizeWeights(const ModelConfig& config, const WeightLayout& layout);
// The same with larger pages, without adding up all tensors again.
WeightSizes WithPages(WeightSizes sizes, int64_t expert_page_bytes);
// Of both regions.
int64_t WeightBytes(const ModelConfig& config, const WeightLayout& layout);

// The regions are zeroed memory of SizeWeights() bytes, aligned as WeightArena is, or null.
WeightPlan PlanWeights(const ModelConfig& config, const WeightLayout& layout,
                       const TensorNames& names, char* common, char* experts);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_WEIGHT_PLAN_H_
