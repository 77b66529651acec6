#include "engine/tokenizer/chat_template_files.h"

#include <cstdint>
#include <fstream>
#include <utility>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/parser.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight {
namespace {

using Json = nlohmann::json;

// Published files have up to about 1 MB, most of it added_tokens_decoder.
constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;
constexpr int kMaxConfigDepth = 32;

// NotFound if there is no such file.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::NotFoundError(absl::StrCat(path, " cannot be opened"));
  const int64_t size = file.tellg();
  if (size < 0 || size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", size, " bytes, limit ", max_bytes));
  }
  std::string text(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read"));
  }
  return text;
}

absl::StatusOr<Json> ParseConfig(const std::string& path, const std::string& text) {
  ASSIGN_OR_RETURN(Json config, ParseJson(text, path, {.max_depth = kMaxConfigDepth}));
  if (config.is_object()) return config;
  return absl::InvalidArgumentError(absl::StrCat(path, ": is not a JSON object"));
}

// A token is written as its text or as an object with it.
std::optional<std::string> TokenText(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (!token.is_object()) return std::nullopt;
  const auto content = token.find("content");
  if (content == token.end() || !content->is_string()) return std::nullopt;
  return content->get<std::string>();
}

std::map<std::string, std::string> SpecialTokens(const Json& config) {
  std::map<std::string, std::string> tokens;
  for (const auto& [name, value] : config.items()) {
    if (!absl::EndsWith(name, "_token")) continue;
    if (std::optional<std::string> text = TokenText(value)) tokens[name] = *std::move(text);
  }
  return tokens;
}

// `chat_template` as a list: [{"name": "default", "template": "..."}, ...].
absl::Status ReadNamedTemplates(const Json& list, ChatTemplateFiles* files) {
  bool has_default = false;
  for (const Json& entry : list) {
    const bool valid = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                       entry.contains("template") && entry["template"].is_string();
    if (!valid) {
      return absl::InvalidArgumentError(absl::StrCat(
          files->path, ": chat_template must be a string or a list of {name, template}"));
    }
    const std::string name = entry["name"].get<std::string>();
    if (name == "default") {
      files->main = entry["template"].get<std::string>();
      has_default = true;
    } else if (name == "tool_use") {
      files->tool_use = entry["template"].get<std::string>();
    }
  }
  if (has_default) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat(files->path, ": chat_template has no entry named \"default\""));
}

absl::Status ReadConfiguredTemplate(const Json& config, ChatTemplateFiles* files) {
  const auto entry = config.find("chat_template");
  if (entry == config.end() || entry->is_null()) {
    return absl::NotFoundError(absl::StrCat(files->path, " has no chat_template"));
  }
  if (entry->is_array()) return ReadNamedTemplates(*entry, files);
  if (!entry->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(
        files->path, ": chat_template must be a string or a list of {name, template}"));
  }
  files->main = entry->get<std::string>();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ChatTemplateFiles> ReadChatTemplateFiles(const std::string& folder) {
  ChatTemplateFiles files;
  const std::string config_path = folder + "/tokenizer_config.json";
  const std::string template_path = folder + "/chat_template.jinja";
  Json config = Json::object();
  absl::StatusOr<std::string> config_text = ReadSmallFile(config_path, kMaxConfigBytes);
  if (config_text.ok()) {
    ASSIGN_OR_RETURN(config, ParseConfig(config_path, *config_text));
  } else if (!absl::IsNotFound(config_text.status())) {
    return config_text.status();
  }
  files.special_tokens = SpecialTokens(config);

  absl::StatusOr<std::string> own_file =
      ReadSmallFile(template_path, static_cast<int64_t>(jinja::kMaxTemplateBytes));
  if (own_file.ok()) {
    files.path = template_path;
    files.main = *std::move(own_file);
  } else if (!absl::IsNotFound(own_file.status())) {
    return own_file.status();
  } else {
    files.path = config_path;
    RETURN_IF_ERROR(ReadConfiguredTemplate(config, &files));
  }
  if (!jinja::IsValidUtf8(files.main)) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.path, ": the chat template is not valid UTF-8"));
  }
  return files;
}

}  // namespace moelight
