#include "engine/pipeline/activations.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Threads that touch the host buffers: they are tens of MiB.
constexpr int kTouchThreads = 1;

int64_t StagingBytes(const ModelConfig& config, const ActivationShape& shape) {
  const KvLayerView view = {nullptr, shape.kv_dtype, shape.num_staging_pages, shape.kv_page_tokens};
  return view.num_pages * view.page_bytes(config.heads());
}

// One list of buffers for adding up and for allocating: visit(view, dtype, dims).
template <typename Visit>
void VisitDeviceBuffers(const ModelConfig& config, const ActivationShape& shape, Activations& a,
                        Visit visit) {
  const HeadGeometry heads = config.heads();
  const int64_t rows = shape.max_rows;
  const int64_t part_rows = shape.max_micro_batch_rows;
  const int64_t sequences = shape.max_sequences;
  const int64_t top_k = std::max<int64_t>(1, config.num_experts_per_tok);
  visit(&a.hidden, shape.dtype, {rows, config.hidden_size});
  visit(&a.normed, shape.dtype, {part_rows, config.hidden_size});
  visit(&a.qkv_device, shape.dtype, {rows, heads.qkv_size()});
  visit(&a.attn_device, shape.dtype, {rows, heads.q_size()});
  visit(&a.last_hidden, shape.dtype, {sequences, config.hidden_size});
  visit(&a.logits_device, DType::kF32, {sequences, config.vocab_size});
  visit(&a.rope_inv_freq, DType::kF32, {heads.head_dim / 2});
  visit(&a.routing.expert_ids, DType::kI32, {part_rows, top_k});
  visit(&a.routing.gates, DType::kF32, {part_rows, top_k});
  visit(&a.routing.expert_offsets, DType::kI32, {config.num_experts + 1});
  visit(&a.routing.slot_tokens, DType::kI32, {part_rows * top_k});
  visit(&a.routing.token_slots, DType::kI32, {part_rows, top_k});
}

template <typename Visit>
void VisitHostBuffers(const ModelConfig& config, const ActivationShape& shape, Activations& a,
                      Visit visit) {
  const HeadGeometry heads = config.heads();
  visit(&a.qkv_host, shape.dtype, {shape.max_rows, heads.qkv_size()});
  visit(&a.attn_host, shape.dtype, {shape.max_rows, heads.q_size()});
  visit(&a.logits, DType::kF32, {shape.max_sequences, config.vocab_size});
  visit(&a.expert_offsets, DType::kI32, {shape.max_sequences, config.num_experts + 1});
}

}  // namespace

ActivationSizes Activations::Sizes(const ModelConfig& config, const ActivationShape& shape) {
  Activations unused;
  ActivationSizes sizes;
  const auto add_to = [](int64_t* bytes) {
    return [bytes](TensorView*, DType dtype, std::initializer_list<int64_t> dims) {
      *bytes += Arena::AlignUp(TensorView::Make(nullptr, dtype, dims).bytes());
    };
  };
  VisitDeviceBuffers(config, shape, unused, add_to(&sizes.device_bytes));
  VisitHostBuffers(config, shape, unused, add_to(&sizes.host_bytes));
  sizes.device_bytes += kNumKvStagings * Arena::AlignUp(StagingBytes(config, shape));
  return sizes;
}

absl::StatusOr<std::unique_ptr<Activations>> Activations::Create(const ModelConfig& config,
                                                                 const ActivationShape& shape,
                                                                 Backend& backend) {
  std::unique_ptr<Activations> a(new Activations());
  const ActivationSizes sizes = Sizes(config, shape);
  ASSIGN_OR_RETURN(a->device_,
                   Arena::CreateOnDevice("the activations", sizes.device_bytes, backend));
  ASSIGN_OR_RETURN(a->host_, Arena::Create("the activations", sizes.host_bytes));
  // Tens of MiB: where not even they can be pinned, copies are slow and nothing else changes.
  (void)a->host_->Pin(backend, kTouchThreads);
  const auto take_from = [](Arena* arena) {
    return [arena](TensorView* view, DType dtype, std::initializer_list<int64_t> dims) {
      *view = arena->AllocateTensor(dtype, dims);
    };
  };
  VisitDeviceBuffers(config, shape, *a, take_from(a->device_.get()));
  VisitHostBuffers(config, shape, *a, take_from(a->host_.get()));
  if (!backend.has_device_memory()) a->logits = a->logits_device;
  for (KvLayerView& staging : a->kv_staging) {
    staging = {a->device_->Allocate(StagingBytes(config, shape)), shape.kv_dtype,
               shape.num_staging_pages, shape.kv_page_tokens};
  }
  const std::unique_ptr<Stream> stream = backend.CreateStream(Lane::kHostToDevice);
  std::vector<float> inv_freq = RopeInvFreq(config);
  RETURN_IF_ERROR(backend.Copy(
      TensorView::Make(inv_freq.data(), DType::kF32, {static_cast<int64_t>(inv_freq.size())}),
      a->rope_inv_freq, *stream));
  RETURN_IF_ERROR(stream->Synchronize());
  return a;
}

}  // namespace moelight
