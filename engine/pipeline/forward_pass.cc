#include "engine/pipeline/forward_pass.h"

#include <iterator>

#include "engine/backend/byte_view.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

TensorView RowsOf(const TensorView& view, const MicroBatch& part) {
  return view.Rows(part.row_begin, part.row_end);
}
TensorView HostRowsOf(const TensorView& view, const MicroBatch& part) {
  return view.Rows(part.row_begin, part.host_row_end);
}
TensorView DeviceRowsOf(const TensorView& view, const MicroBatch& part) {
  return view.Rows(part.host_row_end, part.row_end);
}

}  // namespace

ForwardPass::ForwardPass(const ForwardPassParts& parts, const WeightStream& stream,
                         Activations& activations)
    : parts_(parts),
      weight_stream_(stream),
      act_(activations),
      heads_(parts.config.heads()),
      attention_scale_(parts.config.attention_scale()),
      host_stream_(parts.host.CreateStream(Lane::kCpu)) {
  if (!parts.weights.layers.back().experts.empty()) {
    expert_counts_.resize(parts.config.num_experts);
  }
}

void ForwardPass::BeginStep(const Batch* batch) {
  CHECK_LE(batch->num_rows(), act_.hidden.dim(0));
  CHECK_LE(batch->num_sequences(), act_.logits.dim(0));
  CHECK_LE(static_cast<int64_t>(batch->micro_batches().size()), act_.expert_offsets.dim(0));
  for (const MicroBatch& part : batch->micro_batches()) {
    CHECK_LE(part.num_rows(), act_.normed.dim(0));
  }
  batch_ = batch;
  num_kept_offsets_ = 0;
  h2d_bytes_ = 0;
  d2h_bytes_ = 0;
}

void ForwardPass::EndStep() {
  if (expert_counts_.empty()) return;
  for (int32_t i = 0; i < num_kept_offsets_; ++i) {
    const int32_t* offsets = act_.expert_offsets.Rows(i, i + 1).as<int32_t>();
    for (size_t e = 0; e < expert_counts_.size(); ++e) {
      expert_counts_[e] += offsets[e + 1] - offsets[e];
    }
  }
}

ForwardPass::TaskMethod ForwardPass::MethodOf(TaskKind kind) {
  // In the order of TaskKind.
  static constexpr TaskMethod kMethods[] = {
      &ForwardPass::Embed,         &ForwardPass::PreAttn,     &ForwardPass::OffloadQkv,
      &ForwardPass::Attn,          &ForwardPass::LoadHidden,  &ForwardPass::LoadKv,
      &ForwardPass::DeviceAttn,    &ForwardPass::OffloadKv,   &ForwardPass::PostAttn,
      &ForwardPass::Experts,       &ForwardPass::LoadWeights, &ForwardPass::Logits,
      &ForwardPass::OffloadLogits,
  };
  static_assert(std::size(kMethods) == kNumTaskKinds);
  return kMethods[static_cast<int>(kind)];
}

absl::Status ForwardPass::Run(const Task& task, Stream& stream) {
  return (this->*MethodOf(task.kind))(task, batch_->micro_batches()[task.micro_batch], stream);
}

absl::Status ForwardPass::Embed(const Task&, const MicroBatch& part, Stream& stream) {
  return parts_.device.Embed(
      {batch_->token_ids(part), parts_.weights.embed, RowsOf(act_.hidden, part)}, stream);
}

absl::Status ForwardPass::PreAttn(const Task& task, const MicroBatch& part, Stream& stream) {
  const LayerWeights& weights = parts_.weights.layers[task.layer];
  const TensorView normed = act_.normed.Rows(0, part.num_rows());
  const TensorView qkv = RowsOf(act_.qkv_device, part);
  const float epsilon = parts_.config.rms_norm_eps;
  RETURN_IF_ERROR(parts_.device.RmsNorm(
      {RowsOf(act_.hidden, part), weights.attn_norm, epsilon, normed}, stream));
  RETURN_IF_ERROR(parts_.device.MatMul({normed, weights.qkv, qkv, /*accumulate=*/false}, stream));
  QkNormRopeArgs rope;
  rope.qkv = qkv;
  rope.heads = heads_;
  rope.positions = batch_->positions(part);
  rope.q_norm = weights.q_norm;
  rope.k_norm = weights.k_norm;
  rope.epsilon = epsilon;
  rope.inv_freq = act_.rope_inv_freq;
  return parts_.device.QkNormRope(rope, stream);
}

absl::Status ForwardPass::OffloadQkv(const Task&, const MicroBatch& part, Stream& stream) {
  const TensorView source = HostRowsOf(act_.qkv_device, part);
  d2h_bytes_ += source.bytes();
  return parts_.device.Copy(source, HostRowsOf(act_.qkv_host, part), stream);
}

AttentionArgs ForwardPass::AttentionArgsOf(const TensorView& qkv, const TensorView& out) const {
  AttentionArgs args;
  args.qkv = qkv;
  args.heads = heads_;
  args.scale = attention_scale_;
  args.sliding_window = parts_.config.sliding_window;
  args.out = out;
  return args;
}

absl::Status ForwardPass::Attn(const Task& task, const MicroBatch&, Stream& stream) {
  return stream.RunOnHost([this, layer = task.layer, micro_batch = task.micro_batch]() {
    return AttendOnHost(layer, micro_batch);
  });
}

absl::Status ForwardPass::AttendOnHost(int32_t layer, int32_t micro_batch) {
  const MicroBatch& part = batch_->micro_batches()[micro_batch];
  AttentionArgs args =
      AttentionArgsOf(HostRowsOf(act_.qkv_host, part), HostRowsOf(act_.attn_host, part));
  args.sequences = batch_->host_attention(part);
  args.kv = parts_.kv_cache.layer(layer);
  return parts_.host.Attention(args, *host_stream_);
}

absl::Status ForwardPass::LoadHidden(const Task&, const MicroBatch& part, Stream& stream) {
  const TensorView source = HostRowsOf(act_.attn_host, part);
  h2d_bytes_ += source.bytes();
  return parts_.device.Copy(source, HostRowsOf(act_.attn_device, part), stream);
}

absl::Status ForwardPass::LoadKv(const Task& task, const MicroBatch& part, Stream& stream) {
  const absl::Span<const PageCopy> pages = batch_->kv_loads(part);
  h2d_bytes_ += static_cast<int64_t>(pages.size()) * kv_page_bytes();
  return parts_.device.CopyPages(
      {parts_.kv_cache.layer(task.layer).data, staging(task).data, kv_page_bytes(), pages}, stream);
}

absl::Status ForwardPass::DeviceAttn(const Task& task, const MicroBatch& part, Stream& stream) {
  AttentionArgs args =
      AttentionArgsOf(DeviceRowsOf(act_.qkv_device, part), DeviceRowsOf(act_.attn_device, part));
  args.sequences = batch_->device_attention(part);
  args.kv = staging(task);
  return parts_.device.Attention(args, stream);
}

absl::Status ForwardPass::OffloadKv(const Task& task, const MicroBatch& part, Stream& stream) {
  const absl::Span<const PageCopy> pages = batch_->kv_offloads(part);
  d2h_bytes_ += static_cast<int64_t>(pages.size()) * kv_page_bytes();
  return parts_.device.CopyPages(
      {staging(task).data, parts_.kv_cache.layer(task.layer).data, kv_page_bytes(), pages}, stream);
}

absl::Status ForwardPass::PostAttn(const Task& task, const MicroBatch& part, Stream& stream) {
  return parts_.device.MatMul({RowsOf(act_.attn_device, part), parts_.weights.layers[task.layer].o,
                               RowsOf(act_.hidden, part), /*accumulate=*/true},
                              stream);
}

absl::Status ForwardPass::Experts(const Task& task, const MicroBatch& first, Stream& stream) {
  const LayerWeights& weights = parts_.weights.layers[task.layer];
  const MicroBatch& last = batch_->micro_batches()[task.micro_batch + task.num_micro_batches - 1];
  const TensorView hidden = act_.hidden.Rows(first.row_begin, last.row_end);
  const TensorView normed = act_.normed.Rows(0, hidden.dim(0));
  RETURN_IF_ERROR(parts_.device.RmsNorm(
      {hidden, weights.ffn_norm, parts_.config.rms_norm_eps, normed}, stream));
  if (weights.experts.empty()) {
    return parts_.device.DenseFfn({normed, weights.dense, hidden}, stream);
  }
  RETURN_IF_ERROR(Moe(task.layer, normed, hidden, stream));
  if (task.layer + 1 < parts_.config.num_hidden_layers) return absl::OkStatus();
  return KeepExpertOffsets(stream);
}

absl::Status ForwardPass::Moe(int32_t layer, const TensorView& normed, const TensorView& hidden,
                              Stream& stream) {
  const LayerWeights& weights = parts_.weights.layers[layer];
  const int64_t num_rows = normed.dim(0);
  const int32_t top_k = parts_.config.num_experts_per_tok;
  Routing routing = act_.routing;
  routing.expert_ids = routing.expert_ids.Rows(0, num_rows);
  routing.gates = routing.gates.Rows(0, num_rows);
  routing.token_slots = routing.token_slots.Rows(0, num_rows);
  routing.slot_tokens = routing.slot_tokens.Rows(0, num_rows * top_k);
  RETURN_IF_ERROR(parts_.device.Router(
      {normed, weights.router, top_k, parts_.config.norm_topk_prob, routing}, stream));
  MoeFfnArgs args{normed, routing, weights.experts, hidden, {}};
  if (parts_.experts != nullptr) args.pages = parts_.experts->pages(layer);
  return parts_.device.MoeFfn(args, stream);
}

absl::Status ForwardPass::KeepExpertOffsets(Stream& stream) {
  const TensorView row = act_.expert_offsets.Rows(num_kept_offsets_, num_kept_offsets_ + 1);
  ++num_kept_offsets_;
  return parts_.device.Copy(
      act_.routing.expert_offsets,
      TensorView::Make(row.data, DType::kI32, {parts_.config.num_experts + 1}), stream);
}

absl::Status ForwardPass::LoadWeights(const Task& task, const MicroBatch&, Stream& stream) {
  const int64_t begin = weight_stream_.part_begin(task.layer, task.part);
  const int64_t end = weight_stream_.part_end(task.layer, task.part);
  for (const PageRun& run : parts_.experts->Runs(task.layer, begin, end, task.ahead)) {
    if (run.bytes == 0) continue;
    h2d_bytes_ += run.bytes;
    if (parts_.staged_copy != nullptr) {
      RETURN_IF_ERROR(parts_.staged_copy->Copy(run.src, run.dst, run.bytes, stream));
      continue;
    }
    RETURN_IF_ERROR(
        parts_.device.Copy(ByteView(run.src, run.bytes), ByteView(run.dst, run.bytes), stream));
  }
  return absl::OkStatus();
}

absl::Status ForwardPass::Logits(const Task&, const MicroBatch& part, Stream& stream) {
  if (part.num_outputs() == 0) return absl::OkStatus();
  const TensorView last_hidden = act_.last_hidden.Rows(part.output_begin, part.output_end);
  RETURN_IF_ERROR(parts_.device.GatherRows(
      {act_.hidden.Rows(0, batch_->num_rows()),
       batch_->last_rows().subspan(part.output_begin, part.num_outputs()), last_hidden},
      stream));
  RETURN_IF_ERROR(parts_.device.RmsNorm(
      {last_hidden, parts_.weights.final_norm, parts_.config.rms_norm_eps, last_hidden}, stream));
  return parts_.device.MatMul(
      {last_hidden, parts_.weights.lm_head,
       act_.logits_device.Rows(part.output_begin, part.output_end), /*accumulate=*/false},
      stream);
}

absl::Status ForwardPass::OffloadLogits(const Task&, const MicroBatch& part, Stream& stream) {
  const TensorView source = act_.logits_device.Rows(part.output_begin, part.output_end);
  const TensorView target = act_.logits.Rows(part.output_begin, part.output_end);
  if (part.num_outputs() == 0 || source.data == target.data) return absl::OkStatus();
  d2h_bytes_ += source.bytes();
  return parts_.device.Copy(source, target, stream);
}

}  // namespace moelight
