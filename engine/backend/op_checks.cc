#include "engine/backend/op_checks.h"

namespace moelight {
namespace {

void CheckShape(const TensorView& view, DType dtype, int64_t rows, int64_t cols) {
  CHECK(view.rank == 2 && view.dtype == dtype && view.dim(0) == rows && view.dim(1) == cols)
      << "is " << view.ShapeString() << ", expected [" << rows << ", " << cols << "] "
      << DTypeName(dtype);
  CHECK(view.defined() || view.num_elements() == 0);
}

void CheckVector(const TensorView& view, DType dtype, int64_t size) {
  CHECK(view.defined() && view.rank == 1 && view.dtype == dtype && view.dim(0) == size)
      << "is " << view.ShapeString() << ", expected [" << size << "] " << DTypeName(dtype);
}

void CheckOptionalVector(const TensorView& view, DType dtype, int64_t size) {
  if (view.defined()) CheckVector(view, dtype, size);
}

void CheckWeight(const WeightMatrix& weight, const WeightFormat& format, int64_t rows,
                 int64_t cols) {
  CHECK(weight.defined());
  CHECK(weight.format == &format) << "weights are " << weight.format->name << ", the backend reads "
                                  << format.name;
  CHECK(weight.num_rows == rows && weight.num_cols == cols)
      << "weight is [" << weight.num_rows << ", " << weight.num_cols << "], expected [" << rows
      << ", " << cols << "]";
}

void CheckHeads(const HeadGeometry& heads) {
  CHECK_GT(heads.num_key_value_heads, 0);
  CHECK_GT(heads.num_attention_heads, 0);
  CHECK_EQ(heads.num_attention_heads % heads.num_key_value_heads, 0);
  CHECK(heads.head_dim > 0 && heads.head_dim % 2 == 0) << heads.head_dim;
}

// Returns the intermediate size.
int64_t CheckFfn(const FfnWeights& weights, const WeightFormat& format, int64_t hidden_size) {
  const int64_t intermediate_size = weights.down.num_cols;
  CheckWeight(weights.gate_up, format, 2 * intermediate_size, hidden_size);
  CheckWeight(weights.down, format, hidden_size, intermediate_size);
  return intermediate_size;
}

void CheckRouting(const Routing& routing, int64_t num_tokens, int64_t num_experts) {
  const int64_t k = routing.expert_ids.dim(1);
  CheckShape(routing.expert_ids, DType::kI32, num_tokens, k);
  CheckShape(routing.gates, DType::kF32, num_tokens, k);
  CheckShape(routing.token_slots, DType::kI32, num_tokens, k);
  CheckVector(routing.slot_tokens, DType::kI32, num_tokens * k);
  CheckVector(routing.expert_offsets, DType::kI32, num_experts + 1);
}

}  // namespace

void CheckEmbed(const EmbedArgs& args, const Backend& backend) {
  CHECK_EQ(args.table.rank, 2);
  CHECK(args.table.dtype == DType::kF32 || args.table.dtype == DType::kBF16);
  const int64_t num_tokens = static_cast<int64_t>(args.token_ids.size());
  CheckShape(args.y, backend.activation_dtype(), num_tokens, args.table.dim(1));
  for (const int32_t id : args.token_ids) {
    CHECK(id >= 0 && id < args.table.dim(0)) << "token " << id << " of " << args.table.dim(0);
  }
}

void CheckRmsNorm(const RmsNormArgs& args, const Backend& backend) {
  CheckShape(args.x, backend.activation_dtype(), args.x.dim(0), args.x.dim(1));
  CheckShape(args.y, backend.activation_dtype(), args.x.dim(0), args.x.dim(1));
  CheckVector(args.weight, DType::kF32, args.x.dim(1));
}

void CheckMatMul(const MatMulArgs& args, const Backend& backend) {
  CheckWeight(args.weight, backend.weight_format(), args.weight.num_rows, args.weight.num_cols);
  CheckShape(args.x, backend.activation_dtype(), args.x.dim(0), args.weight.num_cols);
  CheckShape(args.y, backend.activation_dtype(), args.x.dim(0), args.weight.num_rows);
}

void CheckQkNormRope(const QkNormRopeArgs& args, const Backend& backend) {
  CheckHeads(args.heads);
  const int64_t num_tokens = static_cast<int64_t>(args.positions.size());
  CheckShape(args.qkv, backend.activation_dtype(), num_tokens, args.heads.qkv_size());
  CheckOptionalVector(args.q_norm, DType::kF32, args.heads.head_dim);
  CheckOptionalVector(args.k_norm, DType::kF32, args.heads.head_dim);
  CheckVector(args.inv_freq, DType::kF32, args.heads.head_dim / 2);
  for (const int32_t position : args.positions) CHECK_GE(position, 0);
}

void CheckAttention(const AttentionArgs& args, const Backend& backend) {
  CheckHeads(args.heads);
  const int64_t num_tokens = args.qkv.dim(0);
  CheckShape(args.qkv, backend.activation_dtype(), num_tokens, args.heads.qkv_size());
  CheckShape(args.out, backend.activation_dtype(), num_tokens, args.heads.q_size());
  CHECK(args.kv.data != nullptr);
  CHECK(args.kv.dtype == backend.kv_dtype());
  CHECK_GT(args.kv.page_tokens, 0);
  CHECK_GE(args.sliding_window, 0);
  CHECK_GE(args.soft_cap, 0);
  CheckOptionalVector(args.sinks, DType::kF32, args.heads.num_attention_heads);
  for (const AttentionSequence& sequence : args.sequences) {
    CHECK_GE(sequence.num_tokens, 1);
    CHECK_GE(sequence.num_cached_tokens, 0);
    CHECK_GE(sequence.first_row, 0);
    CHECK_LE(sequence.first_row + sequence.num_tokens, num_tokens);
    CHECK(sequence.block_table != nullptr);
  }
}

void CheckRouter(const RouterArgs& args, const Backend& backend) {
  const int64_t num_tokens = args.x.dim(0);
  const int64_t num_experts = args.weight.dim(0);
  CheckShape(args.weight, DType::kF32, num_experts, args.x.dim(1));
  CheckShape(args.x, backend.activation_dtype(), num_tokens, args.weight.dim(1));
  CHECK(args.num_experts_per_tok >= 1 && args.num_experts_per_tok <= num_experts)
      << args.num_experts_per_tok << " of " << num_experts;
  CHECK_EQ(args.routing.expert_ids.dim(1), args.num_experts_per_tok);
  CheckRouting(args.routing, num_tokens, num_experts);
}

void CheckMoeFfn(const MoeFfnArgs& args, const Backend& backend) {
  const int64_t num_tokens = args.x.dim(0);
  const int64_t hidden_size = args.x.dim(1);
  CheckShape(args.x, backend.activation_dtype(), num_tokens, hidden_size);
  CheckShape(args.y, backend.activation_dtype(), num_tokens, hidden_size);
  CHECK(!args.experts.empty());
  if (args.pages.defined()) {
    CHECK(args.pages.page_bytes >= 256 &&
          (args.pages.page_bytes & (args.pages.page_bytes - 1)) == 0)
        << args.pages.page_bytes;
    CHECK(args.pages.first_slot >= 0 && args.pages.first_slot <= args.pages.num_ring_slots);
  }
  CheckRouting(args.routing, num_tokens, static_cast<int64_t>(args.experts.size()));
  const int64_t intermediate_size =
      CheckFfn(args.experts.front(), backend.expert_format(), hidden_size);
  for (const FfnWeights& expert : args.experts) {
    CHECK_EQ(CheckFfn(expert, backend.expert_format(), hidden_size), intermediate_size);
  }
}

void CheckDenseFfn(const DenseFfnArgs& args, const Backend& backend) {
  CheckShape(args.x, backend.activation_dtype(), args.x.dim(0), args.x.dim(1));
  CheckShape(args.y, backend.activation_dtype(), args.x.dim(0), args.x.dim(1));
  CheckFfn(args.weights, backend.weight_format(), args.x.dim(1));
}

void CheckGatherRows(const GatherRowsArgs& args, const Backend& backend) {
  const int64_t num_rows = static_cast<int64_t>(args.rows.size());
  CheckShape(args.x, backend.activation_dtype(), args.x.dim(0), args.x.dim(1));
  CheckShape(args.y, backend.activation_dtype(), num_rows, args.x.dim(1));
  for (const int32_t row : args.rows) {
    CHECK(row >= 0 && row < args.x.dim(0)) << "row " << row << " of " << args.x.dim(0);
  }
}

void CheckCopy(const TensorView& src, const TensorView& dst) {
  CHECK(src.dtype == dst.dtype && src.num_elements() == dst.num_elements())
      << src.ShapeString() << " to " << dst.ShapeString();
}

void CheckCopyPages(const CopyPagesArgs& args) {
  CHECK(args.page_bytes > 0 && args.page_bytes % 4 == 0) << args.page_bytes;
  CHECK(args.pages.empty() || (args.src != nullptr && args.dst != nullptr));
}

}  // namespace moelight
