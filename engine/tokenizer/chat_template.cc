#include "engine/tokenizer/chat_template.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/chat_template_files.h"
#include "engine/tokenizer/jinja/interpreter.h"
#include "engine/tokenizer/jinja/json.h"
#include "engine/tokenizer/jinja/parser.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight {
namespace {

using jinja::Dict;
using jinja::DictPtr;
using jinja::Str;
using jinja::Value;

// The roles of the chat APIs. Whoever sends one of them chooses among the template's own words, so
// a control token made from it is the template's.
constexpr absl::string_view kKnownRoles[] = {
    "system",  "developer", "user",     "assistant",   "tool",        "function",
    "ipython", "model",     "document", "observation", "environment", "context",
};

bool IsKnownRole(absl::string_view role) {
  return std::find(std::begin(kKnownRoles), std::end(kKnownRoles), role) != std::end(kKnownRoles);
}

absl::StatusOr<Value> RequestText(absl::string_view field, const std::string& text) {
  if (!jinja::IsValidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat(field, " is not valid UTF-8"));
  }
  return Value::String(Str::FromRequest(text));
}

absl::StatusOr<Value> RequestJson(absl::string_view field, const std::string& text) {
  absl::StatusOr<Value> value = jinja::ParseRequestJson(text);
  if (value.ok()) return value;
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is not valid JSON: ", value.status().message()));
}

absl::StatusOr<Value> JsonArray(absl::string_view field, const std::string& text) {
  ASSIGN_OR_RETURN(Value value, RequestJson(field, text));
  if (value.is_sequence()) return value;
  return absl::InvalidArgumentError(
      absl::StrCat(field, " must be a JSON array, not ", value.type_name()));
}

absl::StatusOr<Value> MessageValue(const ChatMessage& message, size_t index) {
  const std::string field = absl::StrCat("messages[", index, "].");
  Dict dict;
  const auto add = [&dict, &field](absl::string_view name, const std::string& text) {
    const absl::StatusOr<Value> value = RequestText(absl::StrCat(field, name), text);
    return value.ok() ? dict.Set(Value::Literal(name), *value) : value.status();
  };
  if (IsKnownRole(message.role)) {
    RETURN_IF_ERROR(dict.Set(Value::Literal("role"), Value::Literal(message.role)));
  } else {
    RETURN_IF_ERROR(add("role", message.role));
  }
  RETURN_IF_ERROR(add("content", message.content));
  if (!message.name.empty()) RETURN_IF_ERROR(add("name", message.name));
  if (!message.reasoning_content.empty()) {
    RETURN_IF_ERROR(add("reasoning_content", message.reasoning_content));
  }
  if (!message.tool_calls_json.empty()) {
    ASSIGN_OR_RETURN(Value calls,
                     JsonArray(absl::StrCat(field, "tool_calls"), message.tool_calls_json));
    RETURN_IF_ERROR(dict.Set(Value::Literal("tool_calls"), std::move(calls)));
  }
  if (!message.tool_call_id.empty()) RETURN_IF_ERROR(add("tool_call_id", message.tool_call_id));
  return Value::Of(DictPtr(std::make_shared<Dict>(std::move(dict))));
}

absl::StatusOr<Value> MessagesValue(jinja::Meter& meter, const std::vector<ChatMessage>& messages) {
  std::vector<Value> values;
  values.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    ASSIGN_OR_RETURN(Value value, MessageValue(messages[i], i));
    values.push_back(std::move(value));
  }
  return MakeList(meter, std::move(values));
}

absl::Status AddKwargs(const std::string& json, Dict* variables) {
  ASSIGN_OR_RETURN(const Value kwargs, RequestJson("chat_template_kwargs", json));
  if (!kwargs.is_dict()) {
    return absl::InvalidArgumentError(
        absl::StrCat("chat_template_kwargs must be a JSON object, not ", kwargs.type_name()));
  }
  for (const auto& [key, value] : kwargs.as_dict().entries()) {
    const absl::string_view name = key.as_string().view();
    if (name == "messages" || name == "tools") {
      return absl::InvalidArgumentError(
          absl::StrCat("chat_template_kwargs may not set '", name, "'"));
    }
    RETURN_IF_ERROR(variables->Set(key, value));
  }
  return absl::OkStatus();
}

}  // namespace

struct ChatTemplate::Parsed {
  jinja::Body main;
  std::optional<jinja::Body> tool_use;  // for prompts with tools; unset: main
};

ChatTemplate::ChatTemplate(std::unique_ptr<Parsed> parsed,
                           std::map<std::string, std::string> special_tokens,
                           const ChatTemplateLimits& limits)
    : parsed_(std::move(parsed)), special_tokens_(std::move(special_tokens)), limits_(limits) {}

ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(
    absl::string_view source, const std::map<std::string, std::string>& special_tokens,
    const ChatTemplateLimits& limits) {
  if (!jinja::IsValidUtf8(source)) {
    return absl::InvalidArgumentError("the chat template is not valid UTF-8");
  }
  for (const auto& [name, text] : special_tokens) {
    if (!jinja::IsValidUtf8(text)) {
      return absl::InvalidArgumentError(absl::StrCat(name, " is not valid UTF-8"));
    }
  }
  auto parsed = std::make_unique<Parsed>();
  ASSIGN_OR_RETURN(parsed->main, jinja::ParseTemplate(source, limits.max_depth));
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(parsed), special_tokens, limits));
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::FromModelFolder(
    const std::string& folder) {
  ASSIGN_OR_RETURN(const ChatTemplateFiles files, ReadChatTemplateFiles(folder));
  const ChatTemplateLimits limits;
  auto parsed = std::make_unique<Parsed>();
  const auto parse = [&](const std::string& source) -> absl::StatusOr<jinja::Body> {
    absl::StatusOr<jinja::Body> body = jinja::ParseTemplate(source, limits.max_depth);
    if (body.ok()) return body;
    return absl::Status(body.status().code(),
                        absl::StrCat(files.path, ": ", body.status().message()));
  };
  ASSIGN_OR_RETURN(parsed->main, parse(files.main));
  if (files.tool_use.has_value()) {
    ASSIGN_OR_RETURN(parsed->tool_use, parse(*files.tool_use));
  }
  return std::unique_ptr<ChatTemplate>(
      new ChatTemplate(std::move(parsed), files.special_tokens, limits));
}

absl::StatusOr<RenderedPrompt> ChatTemplate::Render(const ChatPrompt& prompt,
                                                    absl::Time now) const {
  jinja::Interpreter interpreter({.max_steps = limits_.max_steps,
                                  .max_value_bytes = limits_.max_output_bytes,
                                  .max_call_depth = limits_.max_depth},
                                 now);
  Dict variables;
  for (const auto& [name, text] : special_tokens_) {
    RETURN_IF_ERROR(variables.Set(Value::Literal(name), Value::Literal(text)));
  }
  RETURN_IF_ERROR(variables.Set(Value::Literal("documents"), Value()));
  RETURN_IF_ERROR(variables.Set(Value::Literal("add_generation_prompt"),
                                Value::Bool(prompt.add_generation_prompt)));
  if (!prompt.chat_template_kwargs_json.empty()) {
    RETURN_IF_ERROR(AddKwargs(prompt.chat_template_kwargs_json, &variables));
  }
  Value tools;
  if (!prompt.tools_json.empty()) {
    ASSIGN_OR_RETURN(tools, JsonArray("tools", prompt.tools_json));
  }
  const bool use_tools = !tools.is_none() && parsed_->tool_use.has_value();
  RETURN_IF_ERROR(variables.Set(Value::Literal("tools"), std::move(tools)));
  ASSIGN_OR_RETURN(Value messages, MessagesValue(interpreter.meter(), prompt.messages));
  RETURN_IF_ERROR(variables.Set(Value::Literal("messages"), std::move(messages)));

  ASSIGN_OR_RETURN(const Str text,
                   interpreter.Render(use_tools ? *parsed_->tool_use : parsed_->main, variables));
  return RenderedPrompt{text.bytes(), text.user_spans()};
}

}  // namespace moelight
