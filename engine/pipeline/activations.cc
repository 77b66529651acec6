#include "engine/pipeline/activations.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Calls visit(&view, dtype, dims) for every buffer: one list for adding up and for allocating.
template <typename Visit>
void VisitBuffers(const ModelConfig& config, const ActivationShape& shape, Activations* a,
                  Routing* routing, Visit visit) {
  const HeadGeometry heads = config.heads();
  const int64_t rows = shape.max_rows;
  const int64_t sequences = shape.max_sequences;
  const int64_t top_k = std::max<int64_t>(1, config.num_experts_per_tok);
  auto view = [a](TensorView Activations::*member) { return a ? &(a->*member) : nullptr; };
  visit(view(&Activations::hidden), shape.dtype, {rows, config.hidden_size});
  visit(view(&Activations::normed), shape.dtype, {rows, config.hidden_size});
  visit(view(&Activations::qkv_device), shape.dtype, {rows, heads.qkv_size()});
  visit(view(&Activations::qkv_host), shape.dtype, {rows, heads.qkv_size()});
  visit(view(&Activations::attn_host), shape.dtype, {rows, heads.q_size()});
  visit(view(&Activations::attn_device), shape.dtype, {rows, heads.q_size()});
  visit(view(&Activations::last_hidden), shape.dtype, {sequences, config.hidden_size});
  visit(view(&Activations::logits), DType::kF32, {sequences, config.vocab_size});
  auto part = [routing](TensorView Routing::*member) {
    return routing ? &(routing->*member) : nullptr;
  };
  visit(part(&Routing::expert_ids), DType::kI32, {rows, top_k});
  visit(part(&Routing::gates), DType::kF32, {rows, top_k});
  visit(part(&Routing::expert_offsets), DType::kI32, {config.num_experts + 1});
  visit(part(&Routing::slot_tokens), DType::kI32, {rows * top_k});
  visit(part(&Routing::token_slots), DType::kI32, {rows, top_k});
}

}  // namespace

int64_t Activations::Bytes(const ModelConfig& config, const ActivationShape& shape) {
  int64_t bytes = 0;
  VisitBuffers(config, shape, nullptr, nullptr,
               [&bytes](TensorView*, DType dtype, std::initializer_list<int64_t> dims) {
                 bytes += Arena::AlignUp(TensorView::Make(nullptr, dtype, dims).bytes());
               });
  return bytes;
}

absl::StatusOr<std::unique_ptr<Activations>> Activations::Create(const ModelConfig& config,
                                                                 const ActivationShape& shape) {
  std::unique_ptr<Activations> a(new Activations());
  ASSIGN_OR_RETURN(a->arena_, Arena::Create("activations", Bytes(config, shape)));
  VisitBuffers(config, shape, a.get(), &a->routing,
               [&a](TensorView* view, DType dtype, std::initializer_list<int64_t> dims) {
                 *view = a->arena_->AllocateTensor(dtype, dims);
               });
  return a;
}

}  // namespace moelight
