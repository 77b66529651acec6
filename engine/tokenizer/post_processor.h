// PostProcessor: the special tokens that tokenizer.json puts around an encoded text.
//
// Threads: immutable, thread-safe. Of a TemplateProcessing only the template for a single text
// matters here; the ByteLevel type only changes offsets, which we do not keep.
#ifndef MOELIGHT_ENGINE_TOKENIZER_POST_PROCESSOR_H_
#define MOELIGHT_ENGINE_TOKENIZER_POST_PROCESSOR_H_

#include <vector>

#include <absl/status/statusor.h>
#include <nlohmann/json.hpp>

#include "engine/request.h"

namespace moelight {

struct PostProcessor {
  std::vector<TokenId> before;  // ids put before the text
  std::vector<TokenId> after;   // ids put behind the text
};

// Reads the "post_processor" section; JSON null adds nothing.
absl::StatusOr<PostProcessor> MakePostProcessor(const nlohmann::json& config);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_POST_PROCESSOR_H_
