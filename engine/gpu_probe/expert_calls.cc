#include "engine/gpu_probe/expert_calls.h"

#include <algorithm>

#include "engine/backend/routing_slots.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/gpu_probe/gpu_parts.h"

namespace moelight {
namespace {

OpLimits ExpertLimits(const ExpertLayerSize& size, int64_t max_tokens) {
  OpLimits limits = LeastLimits();
  limits.max_tokens = max_tokens;
  limits.hidden_size = size.hidden_size;
  limits.max_intermediate_size = size.intermediate_size;
  limits.num_experts = size.num_experts;
  limits.num_experts_per_tok = size.num_experts_per_tok;
  return limits;
}

int64_t GateUpBytes(const ExpertLayerSize& size, const Backend& backend) {
  return backend.expert_format().bytes(2 * size.intermediate_size, size.hidden_size);
}

int64_t NumPages(const ExpertLayerSize& size, int64_t page_bytes, const Backend& backend) {
  return (size.num_experts * ExpertCalls::ExpertBytes(size, backend) + page_bytes - 1) / page_bytes;
}

int64_t RoutingBytes(const ExpertLayerSize& size, int64_t num_tokens) {
  const int64_t slot_bytes = Arena::AlignUp(num_tokens * size.num_experts_per_tok * 4);
  return 4 * slot_bytes + Arena::AlignUp((size.num_experts + 1) * 4);
}

// The same in an arena on either side, so that one copy of all brings it over.
Routing AllocateRouting(const ExpertLayerSize& size, int64_t num_tokens, Arena& arena) {
  const int64_t num_kept = size.num_experts_per_tok;
  Routing routing;
  routing.expert_ids = arena.AllocateTensor(DType::kI32, {num_tokens, num_kept});
  routing.gates = arena.AllocateTensor(DType::kF32, {num_tokens, num_kept});
  routing.expert_offsets = arena.AllocateTensor(DType::kI32, {size.num_experts + 1});
  routing.slot_tokens = arena.AllocateTensor(DType::kI32, {num_tokens * num_kept});
  routing.token_slots = arena.AllocateTensor(DType::kI32, {num_tokens, num_kept});
  return routing;
}

}  // namespace

int64_t ExpertCalls::ExpertBytes(const ExpertLayerSize& size, const Backend& backend) {
  return GateUpBytes(size, backend) +
         backend.expert_format().bytes(size.hidden_size, size.intermediate_size);
}

int64_t ExpertCalls::NumTokens(const ExpertLayerSize& size, int64_t tokens_per_expert) {
  return (tokens_per_expert * size.num_experts + size.num_experts_per_tok - 1) /
         size.num_experts_per_tok;
}

int64_t ExpertCalls::DeviceBytes(const ExpertLayerSize& size, int64_t page_bytes,
                                 int64_t max_tokens, const Backend& backend) {
  const int64_t row_bytes = size.hidden_size * DTypeBytes(backend.activation_dtype());
  return NumPages(size, page_bytes, backend) * page_bytes +
         2 * Arena::AlignUp(max_tokens * row_bytes) + RoutingBytes(size, max_tokens) +
         backend.scratch_bytes(ExpertLimits(size, max_tokens));
}

absl::StatusOr<std::unique_ptr<ExpertCalls>> ExpertCalls::Create(const ExpertLayerSize& size,
                                                                 int64_t page_bytes,
                                                                 int64_t max_tokens,
                                                                 Backend& backend,
                                                                 DeviceData& data) {
  CHECK_LE(size.num_experts_per_tok, size.num_experts);
  RETURN_IF_ERROR(backend.Reserve(ExpertLimits(size, max_tokens)));
  std::unique_ptr<ExpertCalls> calls(new ExpertCalls(size, backend, data));
  const int64_t row_bytes = size.hidden_size * DTypeBytes(backend.activation_dtype());
  ASSIGN_OR_RETURN(calls->weights_,
                   data.Random("experts", NumPages(size, page_bytes, backend) * page_bytes));
  ASSIGN_OR_RETURN(calls->x_, data.Random("inputs", max_tokens * row_bytes));
  ASSIGN_OR_RETURN(calls->y_, data.Random("outputs", max_tokens * row_bytes));
  calls->PlaceExperts(page_bytes);
  return calls;
}

void ExpertCalls::PlaceExperts(int64_t page_bytes) {
  // A quarter resident, the others in a ring that begins in its middle: all ways that the kernels
  // find a page. Nothing reads the storage, for whose address that of the device serves.
  WeightPages& pages = args_.pages;
  const int64_t num_pages = NumPages(size_, page_bytes, backend_);
  pages.storage = weights_->data();
  pages.page_bytes = page_bytes;
  pages.num_resident = num_pages / 4;
  pages.resident = weights_->data();
  pages.ring = weights_->data() + pages.num_resident * page_bytes;
  pages.num_ring_slots = num_pages - pages.num_resident;
  pages.first_slot = pages.num_ring_slots / 2;

  const WeightFormat& format = backend_.expert_format();
  for (int64_t e = 0; e < size_.num_experts; ++e) {
    const char* const home = pages.storage + e * ExpertBytes(size_, backend_);
    experts_.push_back({{home, &format, 2 * size_.intermediate_size, size_.hidden_size},
                        {home + GateUpBytes(size_, backend_), &format, size_.hidden_size,
                         size_.intermediate_size}});
  }
  args_.experts = experts_;
}

absl::Status ExpertCalls::Route(int64_t num_tokens) {
  const int64_t num_slots = num_tokens * size_.num_experts_per_tok;
  const int64_t bytes = RoutingBytes(size_, num_tokens);
  ASSIGN_OR_RETURN(const std::unique_ptr<Arena> host, Arena::Create("routing", bytes));
  const Routing routing = AllocateRouting(size_, num_tokens, *host);
  for (int64_t i = 0; i < num_slots; ++i) {
    routing.expert_ids.as<int32_t>()[i] = static_cast<int32_t>(i % size_.num_experts);
    routing.gates.as<float>()[i] = 1.0f / static_cast<float>(size_.num_experts_per_tok);
  }
  FillRoutingSlots(routing, size_.num_experts);

  routing_ = nullptr;  // first, so that both need not fit
  ASSIGN_OR_RETURN(routing_, Arena::CreateOnDevice("routing", bytes, backend_));
  args_.routing = AllocateRouting(size_, num_tokens, *routing_);
  RETURN_IF_ERROR(
      data_.Upload(routing.expert_ids.data, args_.routing.expert_ids.data, host->used_bytes()));
  const DType act = backend_.activation_dtype();
  args_.x = TensorView::Make(x_->data(), act, {num_tokens, size_.hidden_size});
  args_.y = TensorView::Make(y_->data(), act, {num_tokens, size_.hidden_size});
  return absl::OkStatus();
}

absl::Status ExpertCalls::Issue(Stream& stream) { return backend_.MoeFfn(args_, stream); }

}  // namespace moelight
