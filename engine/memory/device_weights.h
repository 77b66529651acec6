// DeviceWeights: a loaded model's weights where a backend reads them.
//
// A backend without device memory reads them where they are. For one with it, what every token
// needs moves to the device, resident expert pages are copied there, both give their host memory
// back, and the pages to be streamed are pinned.
//
// Threads: engine thread. Owns the weights and the device memory. Allocates in Create() only.
// Errors: ResourceExhausted naming what does not fit. Memory that cannot be pinned is no error:
// copies are slow then, see pinned().
#ifndef MOELIGHT_ENGINE_MEMORY_DEVICE_WEIGHTS_H_
#define MOELIGHT_ENGINE_MEMORY_DEVICE_WEIGHTS_H_

#include <memory>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/memory/arena.h"
#include "engine/memory/expert_store.h"
#include "engine/model/model_weights.h"
#include "engine/model/weight_plan.h"

namespace moelight {

class DeviceWeights {
 public:
  // `experts` was planned for `layout`.
  static absl::StatusOr<std::unique_ptr<DeviceWeights>> Create(const ModelConfig& config,
                                                               const WeightLayout& layout,
                                                               const ExpertStoreOptions& experts,
                                                               std::unique_ptr<ModelWeights> loaded,
                                                               Backend& backend);

  const ModelWeights& weights() const { return *weights_; }
  // Null: experts are read where weights() says.
  ExpertStore* experts() const { return experts_.get(); }
  // OK, or why the system did not allow to pin the streamed pages.
  const absl::Status& pinned() const { return pinned_; }

 private:
  DeviceWeights() = default;
  absl::Status MoveCommon(const ModelConfig& config, const WeightLayout& layout,
                          const WeightSizes& sizes, Backend& backend, Stream& stream);
  absl::Status PlaceExperts(const ExpertStoreOptions& options, const WeightSizes& sizes,
                            Backend& backend, Stream& stream);

  std::unique_ptr<ModelWeights> weights_;
  std::unique_ptr<Arena> common_;
  std::unique_ptr<ExpertStore> experts_;
  std::vector<std::unique_ptr<PinnedRange>> pinned_ranges_;
  absl::Status pinned_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MEMORY_DEVICE_WEIGHTS_H_
