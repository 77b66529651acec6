// ReadChatTemplateFiles: what a model folder says about its chat template, still unparsed.
//
// Thread-safe. Errors: NotFound if the folder has no template; InvalidArgument naming the file for
// one that cannot be read or is not of the expected form.
#ifndef MOELIGHT_ENGINE_TOKENIZER_CHAT_TEMPLATE_FILES_H_
#define MOELIGHT_ENGINE_TOKENIZER_CHAT_TEMPLATE_FILES_H_

#include <map>
#include <optional>
#include <string>

#include <absl/status/statusor.h>

namespace moelight {

struct ChatTemplateFiles {
  std::string path;                     // of the file that has the template
  std::string main;                     // UTF-8
  std::optional<std::string> tool_use;  // the template of that name, for prompts with tools
  std::map<std::string, std::string> special_tokens;  // "bos_token" to "<s>"
};

absl::StatusOr<ChatTemplateFiles> ReadChatTemplateFiles(const std::string& folder);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_CHAT_TEMPLATE_FILES_H_
