// LoadWeights: fills a ModelWeights from a checkpoint, or with dummy weights.
#ifndef MOELIGHT_ENGINE_MODEL_WEIGHT_LOADER_H_
#define MOELIGHT_ENGINE_MODEL_WEIGHT_LOADER_H_

#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/base/logger.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"
#include "engine/model/weight_plan.h"

namespace moelight {

enum class LoadFormat : uint8_t {
  kSafetensors,  // the checkpoint in the folder
  kDummy,        // random weights from config.json alone
};

// "safetensors" or "auto", and "dummy". InvalidArgument with the list otherwise.
absl::StatusOr<LoadFormat> ParseLoadFormat(absl::string_view text);

// Everything about the checkpoint is checked before memory is allocated. Then `num_threads` (>= 1)
// threads read, convert and pack pieces of a few MiB straight into place; beyond the weights
// themselves only those pieces are in memory. The calling thread waits and logs the progress.
//
// Allocates: WeightBytes(config, layout) for the arena.
// Errors: NotFound or InvalidArgument naming file, tensor and rule; DataLoss if a file shrinks
// while it is read; ResourceExhausted if the system grants no memory or thread.
absl::StatusOr<std::unique_ptr<ModelWeights>> LoadWeights(const std::string& folder,
                                                          const ModelConfig& config,
                                                          const WeightLayout& layout,
                                                          LoadFormat format, int num_threads,
                                                          Logger& logger);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_WEIGHT_LOADER_H_
