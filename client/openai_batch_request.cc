// Input lines: JSON to BatchRequest.
#include <algorithm>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

#include "client/openai_batch.h"
#include "client/sampling_fields.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

using Json = nlohmann::json;

constexpr absl::string_view kChatUrl = "/v1/chat/completions";
constexpr absl::string_view kCompletionUrl = "/v1/completions";

// Puts the field in front of an error's message.
absl::Status InField(absl::string_view field, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(field, ": ", status.message()));
}

absl::Status Unsupported(absl::string_view why) { return absl::InvalidArgumentError(why); }

// What the fields of one body leave behind until all have been seen.
struct BodyState {
  v1::BatchRequest& request;
  bool want_logprobs = false;
  std::optional<int32_t> top_logprobs = std::nullopt;
  std::optional<int32_t> max_completion_tokens = std::nullopt;
  bool drop_tools = false;
};

// --- Chat messages ---

// Text, or the text parts of an array joined by newlines, as vLLM does.
absl::Status ReadContent(Json& value, v1::ChatMessage& message) {
  if (value.is_null()) return absl::OkStatus();
  if (value.is_string()) {
    message.set_content(std::move(value.get_ref<std::string&>()));
    return absl::OkStatus();
  }
  if (!value.is_array()) return WrongType("a string or an array of text parts", value);
  std::string& content = *message.mutable_content();
  for (size_t i = 0; i < value.size(); ++i) {
    const Json& part = value[i];
    const auto type = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || type == part.end() || *type != "text") {
      return absl::InvalidArgumentError(
          absl::StrCat("part ", i, " is not {\"type\": \"text\"}, the only type supported"));
    }
    const auto text = part.find("text");
    if (text == part.end() || !text->is_string()) {
      return absl::InvalidArgumentError(absl::StrCat("part ", i, " has no text"));
    }
    if (part.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("part ", i, " has fields other than type and text"));
    }
    absl::StrAppend(&content, i == 0 ? "" : "\n", text->get_ref<const std::string&>());
  }
  return absl::OkStatus();
}

absl::Status ReadMessageField(absl::string_view name, Json& value, v1::ChatMessage& message) {
  if (name == "content") return ReadContent(value, message);
  if (value.is_null()) return absl::OkStatus();
  if (name == "tool_calls") {
    if (!value.is_array()) return WrongType("an array", value);
    if (!value.empty()) message.set_tool_calls_json(value.dump());
    return absl::OkStatus();
  }
  std::string* target = name == "role"   ? message.mutable_role()
                        : name == "name" ? message.mutable_name()
                        : name == "reasoning_content" || name == "reasoning"
                            ? message.mutable_reasoning_content()
                        : name == "tool_call_id" ? message.mutable_tool_call_id()
                                                 : nullptr;
  if (target == nullptr) return Unsupported("unknown field");
  if (!value.is_string()) return WrongType("a string", value);
  *target = std::move(value.get_ref<std::string&>());
  return absl::OkStatus();
}

absl::Status ReadMessage(Json& value, v1::ChatMessage& message) {
  if (!value.is_object()) return WrongType("an object", value);
  for (auto& [name, field] : value.items()) {
    absl::Status status = ReadMessageField(name, field, message);
    if (!status.ok()) return InField(name, status);
  }
  if (message.role().empty()) return absl::InvalidArgumentError("role is missing");
  // The API allows an assistant's message without content, for example beside tool calls.
  if (!value.contains("content") && message.role() != "assistant") {
    return absl::InvalidArgumentError("content is missing");
  }
  return absl::OkStatus();
}

absl::Status SetMessages(Json& value, BodyState& state) {
  if (!value.is_array()) return WrongType("an array of messages", value);
  if (value.empty()) return absl::InvalidArgumentError("must have at least one message");
  v1::ChatPrompt& chat = *state.request.mutable_prompt()->mutable_chat();
  for (size_t i = 0; i < value.size(); ++i) {
    absl::Status status = ReadMessage(value[i], *chat.add_messages());
    if (!status.ok())
      return absl::InvalidArgumentError(absl::StrCat("[", i, "] ", status.message()));
  }
  return absl::OkStatus();
}

// --- Other fields ---

absl::Status SetPromptIds(const Json& value, BodyState& state) {
  v1::TokenIds& ids = *state.request.mutable_prompt()->mutable_token_ids();
  for (const Json& item : value) {
    int32_t id = 0;
    RETURN_IF_ERROR(ReadInt32(item, id));
    ids.add_ids(id);
  }
  return absl::OkStatus();
}

// A string, token ids, or an array that holds exactly one of these.
absl::Status SetPrompt(Json& value, BodyState& state) {
  Json* prompt = &value;
  if (value.is_array() && !value.empty() && !value[0].is_number()) {
    if (value.size() != 1) {
      return Unsupported(absl::StrCat("has ", value.size(), " prompts; write one line for each"));
    }
    prompt = &value[0];
  }
  if (prompt->is_string()) {
    state.request.mutable_prompt()->set_text(std::move(prompt->get_ref<std::string&>()));
    return absl::OkStatus();
  }
  if (prompt->is_array() && !prompt->empty()) return SetPromptIds(*prompt, state);
  return WrongType("a string or a non-empty array of token ids", value);
}

absl::Status SetTools(Json& value, BodyState& state) {
  if (!value.is_array()) return WrongType("an array", value);
  if (!value.empty()) state.request.mutable_prompt()->mutable_chat()->set_tools_json(value.dump());
  return absl::OkStatus();
}

absl::Status SetToolChoice(Json& value, BodyState& state) {
  if (value != "auto" && value != "none") {
    return Unsupported("only \"auto\" and \"none\" are supported, calls cannot be forced");
  }
  state.drop_tools = value == "none";
  return absl::OkStatus();
}

absl::Status SetTemplateKwargs(Json& value, BodyState& state) {
  if (!value.is_object()) return WrongType("an object", value);
  state.request.mutable_prompt()->mutable_chat()->set_chat_template_kwargs_json(value.dump());
  return absl::OkStatus();
}

absl::Status SetAddGenerationPrompt(Json& value, BodyState& state) {
  bool add = true;
  RETURN_IF_ERROR(ReadBool(value, add));
  state.request.mutable_prompt()->mutable_chat()->set_omit_generation_prompt(!add);
  return absl::OkStatus();
}

absl::Status SetChatLogprobs(Json& value, BodyState& state) {
  return ReadBool(value, state.want_logprobs);
}

absl::Status SetTopLogprobs(Json& value, BodyState& state) {
  return ReadInt32(value, state.top_logprobs.emplace());
}

absl::Status SetCompletionLogprobs(Json& value, BodyState& state) {
  int32_t number = 0;
  RETURN_IF_ERROR(ReadInt32(value, number));
  state.request.mutable_sampling()->set_logprobs(number);
  return absl::OkStatus();
}

absl::Status SetMaxCompletionTokens(Json& value, BodyState& state) {
  return ReadInt32(value, state.max_completion_tokens.emplace());
}

absl::Status SetResponseFormat(Json& value, BodyState&) {
  const Json kText = {{"type", "text"}};
  if (value != kText) return Unsupported("only {\"type\": \"text\"} is supported");
  return absl::OkStatus();
}

// Fields that mean nothing in a batch but that programs send along.
absl::Status AcceptString(Json& value, BodyState&) {
  return value.is_string() ? absl::OkStatus() : WrongType("a string", value);
}
absl::Status AcceptBool(Json& value, BodyState&) {
  bool ignored = false;
  return ReadBool(value, ignored);
}
absl::Status AcceptObject(Json& value, BodyState&) {
  return value.is_object() ? absl::OkStatus() : WrongType("an object", value);
}

enum Endpoints : uint8_t { kChat = 1, kCompletion = 2, kBoth = 3 };

struct BodyField {
  absl::string_view name;
  Endpoints endpoints;
  absl::Status (*set)(Json& value, BodyState& state);
};

// Beside SamplingFields(), which both endpoints take.
constexpr BodyField kBodyFields[] = {
    {"messages", kChat, SetMessages},
    {"prompt", kCompletion, SetPrompt},
    {"model", kBoth, AcceptString},
    {"max_completion_tokens", kChat, SetMaxCompletionTokens},
    {"logprobs", kChat, SetChatLogprobs},
    {"logprobs", kCompletion, SetCompletionLogprobs},
    {"top_logprobs", kChat, SetTopLogprobs},
    {"tools", kChat, SetTools},
    {"tool_choice", kChat, SetToolChoice},
    {"chat_template_kwargs", kChat, SetTemplateKwargs},
    {"add_generation_prompt", kChat, SetAddGenerationPrompt},
    {"response_format", kBoth, SetResponseFormat},
    {"stream", kBoth, AcceptBool},
    {"user", kBoth, AcceptString},
    {"metadata", kBoth, AcceptObject},
};

absl::Status SetBodyField(const std::string& name, Json& value, Endpoints endpoint,
                          BodyState& state) {
  if (const SamplingField* field = FindSamplingField(name); field != nullptr) {
    if (value.is_null()) return absl::OkStatus();
    return field->set(value, *state.request.mutable_sampling());
  }
  for (const BodyField& field : kBodyFields) {
    if (field.name != name || (field.endpoints & endpoint) == 0) continue;
    // Generated code often writes null for what is not set.
    if (value.is_null()) return absl::OkStatus();
    return field.set(value, state);
  }
  return Unsupported("unknown or unsupported field");
}

// Combines what several fields say together.
absl::Status FinishBody(RowKind kind, const ParseOptions& options, BodyState& state) {
  v1::BatchRequest& request = state.request;
  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (kind == RowKind::kCompletion) {
    if (request.prompt().input_case() == v1::Prompt::INPUT_NOT_SET) {
      return absl::InvalidArgumentError("body.prompt is missing");
    }
    if (!sampling.has_max_tokens() && options.default_completion_tokens) {
      sampling.set_max_tokens(kDefaultCompletionTokens);
    }
    return absl::OkStatus();
  }
  if (request.prompt().chat().messages().empty()) {
    return absl::InvalidArgumentError("body.messages is missing");
  }
  if (state.top_logprobs.has_value() && !state.want_logprobs) {
    return absl::InvalidArgumentError("body.top_logprobs: needs \"logprobs\": true");
  }
  if (state.want_logprobs) sampling.set_logprobs(state.top_logprobs.value_or(0));
  if (state.max_completion_tokens.has_value()) {
    if (sampling.has_max_tokens() && sampling.max_tokens() != *state.max_completion_tokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("body.max_completion_tokens: ", *state.max_completion_tokens,
                       " contradicts max_tokens, which is ", sampling.max_tokens()));
    }
    sampling.set_max_tokens(*state.max_completion_tokens);
  }
  if (state.drop_tools) request.mutable_prompt()->mutable_chat()->clear_tools_json();
  return absl::OkStatus();
}

absl::Status ReadBody(Json& body, RowKind kind, const ParseOptions& options,
                      v1::BatchRequest& request) {
  if (!body.is_object()) return InField("body", WrongType("an object", body));
  const Endpoints endpoint = kind == RowKind::kChat ? kChat : kCompletion;
  BodyState state{request};
  for (auto it = body.begin(); it != body.end(); ++it) {
    absl::Status status = SetBodyField(it.key(), it.value(), endpoint, state);
    if (!status.ok()) return InField(absl::StrCat("body.", it.key()), status);
  }
  return FinishBody(kind, options, state);
}

// --- The line around the body ---

absl::StatusOr<std::string> TakeString(Json& line, const char* name) {
  const auto it = line.find(name);
  if (it == line.end()) return absl::InvalidArgumentError(absl::StrCat(name, " is missing"));
  if (!it->is_string()) return InField(name, WrongType("a string", *it));
  return std::move(it->get_ref<std::string&>());
}

absl::Status ReadCustomId(Json& line, v1::BatchRequest& request) {
  ASSIGN_OR_RETURN(std::string custom_id, TakeString(line, "custom_id"));
  if (custom_id.empty()) return absl::InvalidArgumentError("custom_id is empty");
  if (custom_id.size() > kMaxCustomIdBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("custom_id has ", custom_id.size(), " bytes, limit ", kMaxCustomIdBytes));
  }
  request.set_custom_id(std::move(custom_id));
  return absl::OkStatus();
}

// Other keys beside the body cannot change the answer; people keep notes there.
absl::Status ReadLine(Json& line, const ParseOptions& options, ParsedLine& parsed) {
  if (!line.is_object()) return WrongType("an object", line);
  RETURN_IF_ERROR(ReadCustomId(line, parsed.request));
  ASSIGN_OR_RETURN(const std::string method, TakeString(line, "method"));
  if (method != "POST") {
    return absl::InvalidArgumentError(absl::StrCat("method: must be POST, is ", method));
  }
  ASSIGN_OR_RETURN(const std::string url, TakeString(line, "url"));
  const std::optional<RowKind> kind = RowKindFromUrl(url);
  if (!kind.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("url: must be ", kChatUrl, " or ", kCompletionUrl, ", is ", url));
  }
  parsed.kind = *kind;
  const auto body = line.find("body");
  if (body == line.end()) return absl::InvalidArgumentError("body is missing");
  return ReadBody(*body, *kind, options, parsed.request);
}

// True if the brackets of `line` nest deeper than kMaxJsonDepth. Checked before parsing because
// nlohmann::json writes nested values out recursively.
bool IsTooDeep(absl::string_view line) {
  // Few brackets in all, the normal case, is a vectorized count.
  if (std::count(line.begin(), line.end(), '[') + std::count(line.begin(), line.end(), '{') <=
      kMaxJsonDepth) {
    return false;
  }
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxJsonDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

// nlohmann's messages begin with "[json.exception.parse_error.101] ".
std::string WithoutPrefix(absl::string_view what) {
  const size_t end = what.find("] ");
  return std::string(end == absl::string_view::npos ? what : what.substr(end + 2));
}

}  // namespace

absl::string_view RowUrl(RowKind kind) {
  return kind == RowKind::kChat ? kChatUrl : kCompletionUrl;
}

std::optional<RowKind> RowKindFromUrl(absl::string_view url) {
  if (url == kChatUrl) return RowKind::kChat;
  if (url == kCompletionUrl) return RowKind::kCompletion;
  return std::nullopt;
}

ParsedLine ParseBatchLine(absl::string_view line, const ParseOptions& options) {
  ParsedLine parsed;
  if (IsTooDeep(line)) {
    parsed.error = {"invalid_json",
                    absl::StrFormat("the JSON nests deeper than %d levels", kMaxJsonDepth)};
    return parsed;
  }
  try {
    Json json = Json::parse(line.begin(), line.end());
    const absl::Status status = ReadLine(json, options, parsed);
    if (!status.ok()) parsed.error = {"invalid_request", std::string(status.message())};
  } catch (const Json::exception& error) {
    parsed.error = {"invalid_json", absl::StrCat("not JSON: ", WithoutPrefix(error.what()))};
  }
  return parsed;
}

}  // namespace moelight::client
