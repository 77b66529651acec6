#include "tests/backend/device_ops.h"

#include <utility>

namespace moelight {

void* DeviceCopies::Copy(void* data, int64_t bytes, bool is_writable) {
  if (!backend_.has_device_memory() || data == nullptr || bytes == 0) return data;
  for (Pair& pair : pairs_) {
    if (pair.host != data || pair.bytes != bytes) continue;
    pair.is_writable |= is_writable;
    return pair.device->data();
  }
  auto device = backend_.AllocateDevice("test", bytes);
  CHECK(device.ok()) << device.status().ToString();
  const absl::Status copied =
      backend_.Copy(TensorView::Make(data, DType::kBF16, {bytes / 2}),
                    TensorView::Make((*device)->data(), DType::kBF16, {bytes / 2}), stream_);
  CHECK(copied.ok() && bytes % 2 == 0) << copied.ToString();
  pairs_.push_back({static_cast<char*>(data), bytes, is_writable, *std::move(device)});
  return pairs_.back().device->data();
}

TensorView DeviceCopies::operator()(const TensorView& view) {
  TensorView on_device = view;
  on_device.data = Writable(view.data, view.bytes());
  return on_device;
}

WeightMatrix DeviceCopies::operator()(const WeightMatrix& matrix) {
  WeightMatrix on_device = matrix;
  on_device.data = ReadOnly(matrix.data, matrix.format->bytes(matrix.num_rows, matrix.num_cols));
  return on_device;
}

Routing DeviceCopies::operator()(const Routing& routing) {
  return {(*this)(routing.expert_ids), (*this)(routing.gates), (*this)(routing.expert_offsets),
          (*this)(routing.slot_tokens), (*this)(routing.token_slots)};
}

absl::Status DeviceCopies::Finish(absl::Status status) {
  for (Pair& pair : pairs_) {
    if (!pair.is_writable) continue;
    status.Update(
        backend_.Copy(TensorView::Make(pair.device->data(), DType::kBF16, {pair.bytes / 2}),
                      TensorView::Make(pair.host, DType::kBF16, {pair.bytes / 2}), stream_));
  }
  status.Update(stream_.Synchronize());
  return status;
}

absl::Status DeviceOps::Embed(EmbedArgs args) {
  DeviceCopies on(backend_, stream_);
  args.table = on(args.table);
  args.y = on(args.y);
  return on.Finish(backend_.Embed(args, stream_));
}

absl::Status DeviceOps::RmsNorm(RmsNormArgs args) {
  DeviceCopies on(backend_, stream_);
  args.x = on(args.x);
  args.weight = on(args.weight);
  args.y = on(args.y);
  return on.Finish(backend_.RmsNorm(args, stream_));
}

absl::Status DeviceOps::MatMul(MatMulArgs args) {
  DeviceCopies on(backend_, stream_);
  args.x = on(args.x);
  args.weight = on(args.weight);
  args.y = on(args.y);
  return on.Finish(backend_.MatMul(args, stream_));
}

absl::Status DeviceOps::QkNormRope(QkNormRopeArgs args) {
  DeviceCopies on(backend_, stream_);
  args.qkv = on(args.qkv);
  args.q_norm = on(args.q_norm);
  args.k_norm = on(args.k_norm);
  args.inv_freq = on(args.inv_freq);
  return on.Finish(backend_.QkNormRope(args, stream_));
}

absl::Status DeviceOps::Attention(AttentionArgs args) {
  DeviceCopies on(backend_, stream_);
  args.qkv = on(args.qkv);
  args.kv.data = on.Writable(args.kv.data, args.kv.num_pages * args.kv.page_bytes(args.heads));
  args.out = on(args.out);
  args.sinks = on(args.sinks);
  return on.Finish(backend_.Attention(args, stream_));
}

absl::Status DeviceOps::Router(RouterArgs args) {
  DeviceCopies on(backend_, stream_);
  args.x = on(args.x);
  args.weight = on(args.weight);
  args.routing = on(args.routing);
  return on.Finish(backend_.Router(args, stream_));
}

absl::Status DeviceOps::MoeFfn(MoeFfnArgs args) {
  DeviceCopies on(backend_, stream_);
  std::vector<FfnWeights> experts(args.experts.begin(), args.experts.end());
  if (args.pages.defined()) {
    // The experts stay what they are: homes in storage, which is not read.
    WeightPages& pages = args.pages;
    pages.resident = on.ReadOnly(pages.resident, pages.num_resident * pages.page_bytes);
    pages.ring = on.ReadOnly(pages.ring, pages.num_ring_slots * pages.page_bytes);
  } else {
    for (FfnWeights& expert : experts) expert = on(expert);
  }
  args.experts = experts;
  args.x = on(args.x);
  args.routing = on(args.routing);
  args.y = on(args.y);
  return on.Finish(backend_.MoeFfn(args, stream_));
}

absl::Status DeviceOps::DenseFfn(DenseFfnArgs args) {
  DeviceCopies on(backend_, stream_);
  args.x = on(args.x);
  args.weights = on(args.weights);
  args.y = on(args.y);
  return on.Finish(backend_.DenseFfn(args, stream_));
}

absl::Status DeviceOps::GatherRows(GatherRowsArgs args) {
  DeviceCopies on(backend_, stream_);
  args.x = on(args.x);
  args.y = on(args.y);
  return on.Finish(backend_.GatherRows(args, stream_));
}

absl::Status DeviceOps::Copy(TensorView src, TensorView dst) {
  DeviceCopies on(backend_, stream_);
  src = on(src);
  dst = on(dst);
  return on.Finish(backend_.Copy(src, dst, stream_));
}

}  // namespace moelight
