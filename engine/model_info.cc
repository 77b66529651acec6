#include "engine/model_info.h"

#include <filesystem>
#include <memory>
#include <system_error>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/model/checkpoint.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"

namespace moelight {

absl::StatusOr<ModelConfig> LoadModelConfigFor(const EngineOptions& options) {
  ASSIGN_OR_RETURN(ModelConfig config, LoadModelConfig(options.model));
  const int32_t num_layers = options.num_hidden_layers;
  if (num_layers == 0) return config;
  if (num_layers < 0 || num_layers > config.num_hidden_layers) {
    return absl::InvalidArgumentError(absl::StrCat(
        num_layers, " layers are asked for, the model has 1 to ", config.num_hidden_layers));
  }
  config.num_hidden_layers = num_layers;
  config.layer_ffn.resize(num_layers);
  return config;
}

ModelInfo DescribeModel(const EngineOptions& options, const ModelConfig& config,
                        bool has_chat_template) {
  ModelInfo info;
  const std::filesystem::path folder(options.model);
  info.name = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  info.architecture = config.architecture;
  info.num_parameters = config.num_parameters();
  info.num_active_parameters = config.num_active_parameters();
  info.vocab_size = config.vocab_size;
  info.max_model_len = options.max_model_len > 0
                           ? options.max_model_len
                           : static_cast<int32_t>(config.max_position_embeddings);
  info.has_chat_template = has_chat_template;
  return info;
}

absl::StatusOr<ModelInfo> Engine::Describe(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfigFor(options));
  // A template is of no use without a tokenizer.
  std::error_code error;
  const std::filesystem::path tokenizer = std::filesystem::path(options.model) / "tokenizer.json";
  bool has_chat_template = false;
  if (std::filesystem::exists(tokenizer, error)) {
    const absl::StatusOr<std::unique_ptr<ChatTemplate>> chat_template =
        ChatTemplate::FromModelFolder(options.model);
    if (!chat_template.ok() && !absl::IsNotFound(chat_template.status())) {
      return chat_template.status();
    }
    has_chat_template = chat_template.ok();
  }
  return DescribeModel(options, config, has_chat_template);
}

ModelFiles Engine::InspectModel(const EngineOptions& options) {
  ModelFiles files;
  files.chat_template = ChatTemplate::FromModelFolder(options.model).status();
  const absl::StatusOr<ModelConfig> config = LoadModelConfigFor(options);
  files.config = config.status();
  if (config.ok()) files.model = DescribeModel(options, *config, files.chat_template.ok());
  const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(options.model);
  files.weights = checkpoint.status();
  if (checkpoint.ok()) {
    for (const auto& [name, tensor] : (*checkpoint)->tensors()) {
      ++files.num_tensors;
      files.weight_bytes += tensor.info.bytes;
    }
  }
  std::error_code error;
  const std::filesystem::path tokenizer = std::filesystem::path(options.model) / "tokenizer.json";
  files.tokenizer = std::filesystem::exists(tokenizer, error)
                        ? Tokenizer::FromFile(tokenizer.string()).status()
                        : absl::NotFoundError(absl::StrCat(tokenizer.string(), ": not found"));
  return files;
}

}  // namespace moelight
