#include "engine/memory/device_weights.h"

#include <utility>

#include "engine/backend/byte_view.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

absl::Status CopyBytes(const char* src, char* dst, int64_t bytes, Backend& backend,
                       Stream& stream) {
  if (bytes == 0) return absl::OkStatus();
  return backend.Copy(ByteView(src, bytes), ByteView(dst, bytes), stream);
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceWeights>> DeviceWeights::Create(
    const ModelConfig& config, const WeightLayout& layout, const ExpertStoreOptions& experts,
    std::unique_ptr<ModelWeights> loaded, Backend& backend) {
  std::unique_ptr<DeviceWeights> weights(new DeviceWeights());
  weights->weights_ = std::move(loaded);
  if (!backend.has_device_memory()) return weights;
  const WeightSizes sizes = SizeWeights(config, layout);
  const std::unique_ptr<Stream> stream = backend.CreateStream(Lane::kHostToDevice);
  RETURN_IF_ERROR(weights->MoveCommon(config, layout, sizes, backend, *stream));
  if (sizes.expert_bytes > 0) {
    RETURN_IF_ERROR(weights->PlaceExperts(experts, sizes, backend, *stream));
  }
  return weights;
}

absl::Status DeviceWeights::MoveCommon(const ModelConfig& config, const WeightLayout& layout,
                                       const WeightSizes& sizes, Backend& backend, Stream& stream) {
  ASSIGN_OR_RETURN(common_, Arena::CreateOnDevice("the weights", sizes.common_bytes, backend));
  char* const device = static_cast<char*>(common_->Allocate(sizes.common_bytes));
  WeightArena& arena = weights_->arena;
  RETURN_IF_ERROR(CopyBytes(arena.data(), device, sizes.common_bytes, backend, stream));
  RETURN_IF_ERROR(stream.Synchronize());
  // The same placement, with the first region on the device.
  ModelWeights placed =
      PlanWeights(config, layout, TensorNames(), device, arena.data() + sizes.common_bytes).weights;
  arena.Release(arena.data(), sizes.common_bytes);
  placed.arena = std::move(arena);
  *weights_ = std::move(placed);
  return absl::OkStatus();
}

absl::Status DeviceWeights::PlaceExperts(const ExpertStoreOptions& options,
                                         const WeightSizes& sizes, Backend& backend,
                                         Stream& stream) {
  const char* const home = weights_->arena.data() + sizes.common_bytes;
  ASSIGN_OR_RETURN(experts_, ExpertStore::Create(options, home, backend));
  const int32_t num_layers = static_cast<int32_t>(options.layer_pages.size());
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    RETURN_IF_ERROR(CopyBytes(experts_->layer_home(layer), experts_->resident(layer),
                              experts_->resident_bytes(layer), backend, stream));
  }
  RETURN_IF_ERROR(stream.Synchronize());
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    char* const resident = const_cast<char*>(experts_->layer_home(layer));
    const int64_t resident_bytes = experts_->resident_bytes(layer);
    weights_->arena.Release(resident, resident_bytes);
    const int64_t streamed_bytes = options.streamed_pages(layer) * options.page_bytes;
    if (streamed_bytes == 0 || !pinned_.ok()) continue;
    absl::StatusOr<std::unique_ptr<PinnedRange>> range =
        backend.PinHost(resident + resident_bytes, streamed_bytes);
    if (range.ok()) {
      pinned_ranges_.push_back(*std::move(range));
    } else {
      pinned_ = range.status();
    }
  }
  return absl::OkStatus();
}

}  // namespace moelight
