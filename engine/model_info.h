// The model as the options ask for it, and what the engine says of it. Engine::Describe()
// and Engine::InspectModel() are implemented here too.
//
// Pure functions but for reading small files of the model folder; thread-safe.
#ifndef MOELIGHT_ENGINE_MODEL_INFO_H_
#define MOELIGHT_ENGINE_MODEL_INFO_H_

#include <absl/status/statusor.h>

#include "engine/engine.h"
#include "engine/model/model_config.h"

namespace moelight {

// LoadModelConfig(), cut to the first options.num_hidden_layers layers if that is not 0.
// InvalidArgument if the model has fewer.
absl::StatusOr<ModelConfig> LoadModelConfigFor(const EngineOptions& options);

// max_model_len is options', or the model's own if that is 0.
ModelInfo DescribeModel(const EngineOptions& options, const ModelConfig& config,
                        bool has_chat_template);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_INFO_H_
