#include "engine/model/weight_plan.h"

#include <utility>

#include <absl/strings/substitute.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

constexpr int64_t kTensorAlignment = 64;  // a cache line, and what WeightFormat::bytes promises

constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Hands out consecutive ranges of memory, or only counts them if there is none.
class Region {
 public:
  explicit Region(char* base) : base_(base) {}

  char* Take(int64_t bytes) {
    char* taken = base_ == nullptr ? nullptr : base_ + used_;
    used_ += RoundUp(bytes, kTensorAlignment);
    return taken;
  }
  void AlignTo(int64_t alignment) { used_ = RoundUp(used_, alignment); }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// Rows of a checkpoint tensor within a stored matrix.
struct Source {
  TensorRole role;
  std::string tensor;
  int64_t num_rows;
  std::vector<int64_t> shape;  // empty: [num_rows, num_cols]
  int64_t source_row = 0;
};

class Planner {
 public:
  Planner(const ModelConfig& config, const WeightLayout& layout, const TensorNames& names,
          char* common, char* experts)
      : config_(config), layout_(layout), names_(names), common_(common), experts_(experts) {}

  void Run() {
    const int64_t vocab = config_.vocab_size;
    const std::string embed(names_.embed);
    plan_.weights.embed = Rows(TensorRole::kEmbed, embed, layout_.embedding_dtype, vocab);
    for (int layer = 0; layer < config_.num_hidden_layers; ++layer) {
      plan_.weights.layers.push_back(Layer(layer));
    }
    plan_.weights.final_norm =
        Vector(TensorRole::kFinalNorm, std::string(names_.final_norm), config_.hidden_size);
    const bool tied = config_.tie_word_embeddings;
    plan_.weights.lm_head = Matrix(common_,
                                   {{tied ? TensorRole::kEmbed : TensorRole::kLmHead,
                                     tied ? embed : std::string(names_.lm_head),
                                     vocab,
                                     {}}},
                                   config_.hidden_size);
    common_.AlignTo(layout_.expert_page_bytes);
  }

  WeightSizes sizes() const { return {common_.used(), experts_.used(), layer_expert_bytes_}; }
  WeightPlan TakePlan() { return std::move(plan_); }

 private:
  static std::string Name(absl::string_view pattern, int layer, int expert = 0) {
    return absl::Substitute(pattern, layer, expert);
  }

  LayerWeights Layer(int layer) {
    const HeadGeometry heads = config_.heads();
    const int64_t hidden = config_.hidden_size;
    LayerWeights weights;
    layer_expert_bytes_.push_back(0);
    weights.attn_norm = Vector(TensorRole::kNorm, Name(names_.attn_norm, layer), hidden);
    weights.qkv = Matrix(common_,
                         {{TensorRole::kProjection, Name(names_.q, layer), heads.q_size(), {}},
                          {TensorRole::kProjection, Name(names_.k, layer), heads.kv_size(), {}},
                          {TensorRole::kProjection, Name(names_.v, layer), heads.kv_size(), {}}},
                         hidden);
    if (config_.use_qk_norm) {
      weights.q_norm = Vector(TensorRole::kNorm, Name(names_.q_norm, layer), config_.head_dim);
      weights.k_norm = Vector(TensorRole::kNorm, Name(names_.k_norm, layer), config_.head_dim);
    }
    weights.o = Matrix(common_, {{TensorRole::kAttentionOutput, Name(names_.o, layer), hidden, {}}},
                       heads.q_size());
    weights.ffn_norm = Vector(TensorRole::kNorm, Name(names_.ffn_norm, layer), hidden);
    if (!config_.layer_is_moe(layer)) {
      weights.dense = Ffn(common_, config_.intermediate_size, Name(names_.dense_gate, layer),
                          Name(names_.dense_up, layer), Name(names_.dense_down, layer));
      return weights;
    }
    weights.router =
        Rows(TensorRole::kRouter, Name(names_.router, layer), DType::kF32, config_.num_experts);
    const int64_t begin = experts_.used();
    for (int e = 0; e < config_.num_experts; ++e) weights.experts.push_back(Expert(layer, e));
    experts_.AlignTo(layout_.expert_page_bytes);
    layer_expert_bytes_.back() = experts_.used() - begin;
    return weights;
  }

  FfnWeights Expert(int layer, int expert) {
    const int64_t size = config_.moe_intermediate_size;
    if (names_.fused_gate_up.empty()) {
      return Ffn(experts_, size, Name(names_.expert_gate, layer, expert),
                 Name(names_.expert_up, layer, expert), Name(names_.expert_down, layer, expert));
    }
    const int64_t hidden = config_.hidden_size;
    const int64_t num = config_.num_experts;
    Source gate_up = {TensorRole::kProjection,
                      Name(names_.fused_gate_up, layer),
                      2 * size,
                      {num, 2 * size, hidden},
                      expert * 2 * size};
    Source down = {TensorRole::kFfnOutput,
                   Name(names_.fused_down, layer),
                   hidden,
                   {num, hidden, size},
                   expert * hidden};
    // In order of address: braces would leave the order of two calls in one expression to the eye.
    FfnWeights weights;
    weights.gate_up = Matrix(experts_, {std::move(gate_up)}, hidden);
    weights.down = Matrix(experts_, {std::move(down)}, size);
    return weights;
  }

  FfnWeights Ffn(Region& region, int64_t size, std::string gate, std::string up, std::string down) {
    FfnWeights weights;
    weights.gate_up = Matrix(region,
                             {{TensorRole::kProjection, std::move(gate), size, {}},
                              {TensorRole::kProjection, std::move(up), size, {}}},
                             config_.hidden_size);
    weights.down =
        Matrix(region, {{TensorRole::kFfnOutput, std::move(down), config_.hidden_size, {}}}, size);
    return weights;
  }

  WeightMatrix Matrix(Region& region, std::vector<Source> sources, int64_t num_cols) {
    WeightMatrix matrix;
    const bool is_expert = &region == &experts_;
    matrix.format = is_expert && layout_.expert_format != nullptr ? layout_.expert_format
                                                                  : layout_.matrix_format;
    matrix.num_cols = num_cols;
    for (const Source& source : sources) matrix.num_rows += source.num_rows;
    char* stored = region.Take(matrix.format->bytes(matrix.num_rows, num_cols));
    matrix.data = stored;
    int64_t row = 0;
    for (Source& source : sources) {
      if (source.shape.empty()) source.shape = {source.num_rows, num_cols};
      plan_.parts.push_back({std::move(source.tensor), source.role, std::move(source.shape),
                             source.source_row, source.num_rows, num_cols, stored, matrix.format,
                             DType::kF32, row, matrix.num_rows});
      row += source.num_rows;
    }
    return matrix;
  }

  // Plain [num_rows, hidden_size] rows.
  TensorView Rows(TensorRole role, std::string tensor, DType dtype, int64_t num_rows) {
    const int64_t num_cols = config_.hidden_size;
    char* stored = common_.Take(num_rows * num_cols * DTypeBytes(dtype));
    plan_.parts.push_back({std::move(tensor),
                           role,
                           {num_rows, num_cols},
                           0,
                           num_rows,
                           num_cols,
                           stored,
                           nullptr,
                           dtype,
                           0,
                           num_rows});
    return TensorView::Make(stored, dtype, {num_rows, num_cols});
  }

  // A plain f32 [size].
  TensorView Vector(TensorRole role, std::string tensor, int64_t size) {
    char* stored = common_.Take(size * DTypeBytes(DType::kF32));
    plan_.parts.push_back(
        {std::move(tensor), role, {size}, 0, 1, size, stored, nullptr, DType::kF32, 0, 1});
    return TensorView::Make(stored, DType::kF32, {size});
  }

  const ModelConfig& config_;
  const WeightLayout& layout_;
  const TensorNames& names_;
  Region common_;   // what every token needs
  Region experts_;  // what is chosen per token
  std::vector<int64_t> layer_expert_bytes_;
  WeightPlan plan_;
};

void CheckLayout(const WeightLayout& layout) {
  CHECK(layout.matrix_format != nullptr);
  CHECK(layout.embedding_dtype == DType::kF32 || layout.embedding_dtype == DType::kBF16);
  CHECK_EQ(layout.expert_page_bytes % kTensorAlignment, 0);
}

}  // namespace

WeightPlan PlanWeights(const ModelConfig& config, const WeightLayout& layout,
                       const TensorNames& names, char* common, char* experts) {
  CheckLayout(layout);
  Planner planner(config, layout, names, common, experts);
  planner.Run();
  WeightPlan plan = planner.TakePlan();
  plan.weights.bytes = planner.sizes().bytes();
  return plan;
}

WeightSizes SizeWeights(const ModelConfig& config, const WeightLayout& layout) {
  CheckLayout(layout);
  // Sizes do not depend on what the tensors are called.
  const TensorNames names;
  Planner planner(config, layout, names, nullptr, nullptr);
  planner.Run();
  return planner.sizes();
}

WeightSizes WithPages(WeightSizes sizes, int64_t expert_page_bytes) {
  sizes.common_bytes = RoundUp(sizes.common_bytes, expert_page_bytes);
  sizes.expert_bytes = 0;
  for (int64_t& bytes : sizes.layer_expert_bytes) {
    bytes = RoundUp(bytes, expert_page_bytes);
    sizes.expert_bytes += bytes;
  }
  return sizes;
}

int64_t WeightBytes(const ModelConfig& config, const WeightLayout& layout) {
  return SizeWeights(config, layout).bytes();
}

}  // namespace moelight
