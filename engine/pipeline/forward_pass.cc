#include "engine/pipeline/forward_pass.h"

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

TensorView RowsOf(const TensorView& view, const MicroBatch& part) {
  return view.Rows(part.row_begin, part.row_end);
}

}  // namespace

ForwardPass::ForwardPass(const ModelConfig& config, const ModelWeights& weights,
                         TensorView rope_inv_freq, Backend& backend, KvCache& kv_cache,
                         Activations& activations)
    : config_(config),
      weights_(weights),
      rope_inv_freq_(rope_inv_freq),
      backend_(backend),
      kv_cache_(kv_cache),
      act_(activations),
      heads_(config.heads()),
      attention_scale_(config.attention_scale()) {}

void ForwardPass::BeginStep(const Batch* batch) {
  CHECK_LE(batch->num_rows(), act_.hidden.dim(0));
  CHECK_LE(batch->num_sequences(), act_.logits.dim(0));
  batch_ = batch;
  h2d_bytes_ = 0;
  d2h_bytes_ = 0;
}

absl::Status ForwardPass::Run(const Task& task, Stream& stream) {
  const MicroBatch& part = batch_->micro_batches()[task.micro_batch];
  switch (task.kind) {
    case TaskKind::kEmbed:
      return Embed(part, stream);
    case TaskKind::kPreAttn:
      return PreAttn(task.layer, part, stream);
    case TaskKind::kOffloadQkv:
      return OffloadQkv(part, stream);
    case TaskKind::kAttn:
      return Attn(task.layer, part, stream);
    case TaskKind::kLoadHidden:
      return LoadHidden(part, stream);
    case TaskKind::kPostAttn:
      return PostAttn(task.layer, part, stream);
    case TaskKind::kLogits:
      return Logits(part, stream);
  }
  return absl::InternalError("unknown task kind");
}

absl::Status ForwardPass::Embed(const MicroBatch& part, Stream& stream) {
  return backend_.Embed({batch_->token_ids(part), weights_.embed, RowsOf(act_.hidden, part)},
                        stream);
}

absl::Status ForwardPass::PreAttn(int32_t layer, const MicroBatch& part, Stream& stream) {
  const LayerWeights& weights = weights_.layers[layer];
  const TensorView normed = RowsOf(act_.normed, part);
  const TensorView qkv = RowsOf(act_.qkv_device, part);
  RETURN_IF_ERROR(backend_.RmsNorm(
      {RowsOf(act_.hidden, part), weights.attn_norm, config_.rms_norm_eps, normed}, stream));
  RETURN_IF_ERROR(backend_.MatMul({normed, weights.qkv, qkv, /*accumulate=*/false}, stream));
  QkNormRopeArgs rope;
  rope.qkv = qkv;
  rope.heads = heads_;
  rope.positions = batch_->positions(part);
  rope.q_norm = weights.q_norm;
  rope.k_norm = weights.k_norm;
  rope.epsilon = config_.rms_norm_eps;
  rope.inv_freq = rope_inv_freq_;
  return backend_.QkNormRope(rope, stream);
}

absl::Status ForwardPass::OffloadQkv(const MicroBatch& part, Stream& stream) {
  const TensorView source = RowsOf(act_.qkv_device, part);
  d2h_bytes_ += source.bytes();
  return backend_.Copy(source, RowsOf(act_.qkv_host, part), stream);
}

absl::Status ForwardPass::Attn(int32_t layer, const MicroBatch& part, Stream& stream) {
  AttentionArgs args;
  args.qkv = RowsOf(act_.qkv_host, part);
  args.heads = heads_;
  args.sequences = batch_->attention(part);
  args.kv = kv_cache_.layer(layer);
  args.scale = attention_scale_;
  args.sliding_window = config_.sliding_window;
  args.out = RowsOf(act_.attn_host, part);
  return backend_.Attention(args, stream);
}

absl::Status ForwardPass::LoadHidden(const MicroBatch& part, Stream& stream) {
  const TensorView source = RowsOf(act_.attn_host, part);
  h2d_bytes_ += source.bytes();
  return backend_.Copy(source, RowsOf(act_.attn_device, part), stream);
}

absl::Status ForwardPass::PostAttn(int32_t layer, const MicroBatch& part, Stream& stream) {
  const LayerWeights& weights = weights_.layers[layer];
  const TensorView hidden = RowsOf(act_.hidden, part);
  const TensorView normed = RowsOf(act_.normed, part);
  RETURN_IF_ERROR(backend_.MatMul(
      {RowsOf(act_.attn_device, part), weights.o, hidden, /*accumulate=*/true}, stream));
  RETURN_IF_ERROR(
      backend_.RmsNorm({hidden, weights.ffn_norm, config_.rms_norm_eps, normed}, stream));
  if (weights.experts.empty()) return backend_.DenseFfn({normed, weights.dense, hidden}, stream);

  const int64_t num_rows = part.num_rows();
  Routing routing = act_.routing;
  routing.expert_ids = routing.expert_ids.Rows(0, num_rows);
  routing.gates = routing.gates.Rows(0, num_rows);
  routing.token_slots = routing.token_slots.Rows(0, num_rows);
  routing.slot_tokens = routing.slot_tokens.Rows(0, num_rows * config_.num_experts_per_tok);
  RETURN_IF_ERROR(backend_.Router(
      {normed, weights.router, config_.num_experts_per_tok, config_.norm_topk_prob, routing},
      stream));
  return backend_.MoeFfn({normed, routing, weights.experts, hidden}, stream);
}

absl::Status ForwardPass::Logits(const MicroBatch& part, Stream& stream) {
  const TensorView last_hidden = act_.last_hidden.Rows(part.sequence_begin, part.sequence_end);
  RETURN_IF_ERROR(backend_.GatherRows(
      {act_.hidden.Rows(0, batch_->num_rows()),
       batch_->last_rows().subspan(part.sequence_begin, part.num_sequences()), last_hidden},
      stream));
  RETURN_IF_ERROR(backend_.RmsNorm(
      {last_hidden, weights_.final_norm, config_.rms_norm_eps, last_hidden}, stream));
  return backend_.MatMul(
      {last_hidden, weights_.lm_head, act_.logits.Rows(part.sequence_begin, part.sequence_end),
       /*accumulate=*/false},
      stream);
}

}  // namespace moelight
