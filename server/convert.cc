#include "server/convert.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Chat templates walk these values recursively; deeper ones are nonsense or an attack.
constexpr int kMaxJsonDepth = 64;

// Follows a JSON text without building it, so that a hostile one costs no memory and no stack.
class JsonChecker : public nlohmann::json_sax<nlohmann::json> {
 public:
  // InvalidArgument unless `text` is one JSON array (or object) of bounded depth.
  static absl::Status Check(const std::string& text, absl::string_view field, bool want_array) {
    JsonChecker checker;
    if (!nlohmann::json::sax_parse(text, &checker)) {
      return absl::InvalidArgumentError(absl::StrCat(field, ": ", checker.error_));
    }
    if (want_array ? !checker.is_array_ : !checker.is_object_) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ": not a JSON ", want_array ? "array" : "object"));
    }
    return absl::OkStatus();
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool key(string_t&) override { return true; }
  bool start_object(size_t) override {
    if (depth_ == 0) is_object_ = true;
    return Enter();
  }
  bool start_array(size_t) override {
    if (depth_ == 0) is_array_ = true;
    return Enter();
  }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  // The library's message quotes the text, which may be a prompt; only the position is told.
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    error_ = absl::StrCat("not JSON at byte ", position);
    return false;
  }

 private:
  bool Enter() {
    if (++depth_ <= kMaxJsonDepth) return true;
    error_ = absl::StrCat("JSON nested deeper than ", kMaxJsonDepth, " levels");
    return false;
  }

  int depth_ = 0;
  bool is_array_ = false;
  bool is_object_ = false;
  std::string error_ = "not JSON";
};

absl::StatusOr<PromptInput> ToTokenIds(const v1::TokenIds& tokens, int32_t vocab_size) {
  if (tokens.ids().empty()) {
    return absl::InvalidArgumentError("prompt.token_ids.ids: empty, at least one id is needed");
  }
  for (int i = 0; i < tokens.ids_size(); ++i) {
    if (tokens.ids(i) < 0 || tokens.ids(i) >= vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("prompt.token_ids.ids[", i, "]: ", tokens.ids(i),
                       " is not a token id of the model, 0 to ", vocab_size - 1));
    }
  }
  return PromptInput(std::vector<TokenId>(tokens.ids().begin(), tokens.ids().end()));
}

absl::StatusOr<PromptInput> ToChatPrompt(const v1::ChatPrompt& chat) {
  if (chat.messages().empty()) {
    return absl::InvalidArgumentError("prompt.chat.messages: empty, at least one is needed");
  }
  ChatPrompt result;
  for (int i = 0; i < chat.messages_size(); ++i) {
    const v1::ChatMessage& message = chat.messages(i);
    const std::string path = absl::StrCat("prompt.chat.messages[", i, "]");
    if (message.role().empty()) return absl::InvalidArgumentError(path + ".role: empty");
    if (!message.tool_calls_json().empty()) {
      RETURN_IF_ERROR(JsonChecker::Check(message.tool_calls_json(), path + ".tool_calls_json",
                                         /*want_array=*/true));
    }
    result.messages.push_back({message.role(), message.content(), message.name(),
                               message.reasoning_content(), message.tool_call_id(),
                               message.tool_calls_json()});
  }
  if (!chat.tools_json().empty()) {
    RETURN_IF_ERROR(
        JsonChecker::Check(chat.tools_json(), "prompt.chat.tools_json", /*want_array=*/true));
  }
  if (!chat.chat_template_kwargs_json().empty()) {
    RETURN_IF_ERROR(JsonChecker::Check(chat.chat_template_kwargs_json(),
                                       "prompt.chat.chat_template_kwargs_json",
                                       /*want_array=*/false));
  }
  result.tools_json = chat.tools_json();
  result.chat_template_kwargs_json = chat.chat_template_kwargs_json();
  result.add_generation_prompt = !chat.omit_generation_prompt();
  return PromptInput(std::move(result));
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kError:
      break;  // the error itself stands beside the choices
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<PromptInput> ToPromptInput(const v1::Prompt& prompt, int32_t vocab_size) {
  switch (prompt.input_case()) {
    case v1::Prompt::kText:
      if (prompt.text().empty()) return absl::InvalidArgumentError("prompt.text: empty");
      return PromptInput(prompt.text());
    case v1::Prompt::kTokenIds:
      return ToTokenIds(prompt.token_ids(), vocab_size);
    case v1::Prompt::kChat:
      return ToChatPrompt(prompt.chat());
    case v1::Prompt::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("prompt: none of text, token_ids and chat is set");
}

absl::StatusOr<SamplingParams> ToSamplingParams(const v1::SamplingParams& sampling,
                                                int32_t vocab_size) {
  SamplingParams params;
  if (sampling.has_temperature()) params.temperature = sampling.temperature();
  if (sampling.has_top_p()) params.top_p = sampling.top_p();
  if (sampling.has_top_k()) params.top_k = sampling.top_k();
  if (sampling.has_min_p()) params.min_p = sampling.min_p();
  if (sampling.has_repetition_penalty()) params.repetition_penalty = sampling.repetition_penalty();
  if (sampling.has_presence_penalty()) params.presence_penalty = sampling.presence_penalty();
  if (sampling.has_frequency_penalty()) params.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_seed()) params.seed = sampling.seed();
  if (sampling.has_max_tokens()) params.max_tokens = sampling.max_tokens();
  if (sampling.has_min_tokens()) params.min_tokens = sampling.min_tokens();
  params.stop.assign(sampling.stop().begin(), sampling.stop().end());
  params.stop_token_ids.assign(sampling.stop_token_ids().begin(), sampling.stop_token_ids().end());
  params.ignore_eos = sampling.ignore_eos();
  if (sampling.has_logprobs()) params.logprobs = sampling.logprobs();
  if (sampling.has_n()) params.n = sampling.n();
  params.logit_bias.assign(sampling.logit_bias().begin(), sampling.logit_bias().end());
  // A protobuf map has no order of its own; the same request must always be the same value.
  std::sort(params.logit_bias.begin(), params.logit_bias.end());
  RETURN_IF_ERROR(ValidateSamplingParams(params, vocab_size));
  return params;
}

absl::StatusOr<GenerateRequest> ToGenerateRequest(const v1::Prompt& prompt,
                                                  const v1::SamplingParams& sampling,
                                                  int32_t vocab_size) {
  GenerateRequest request;
  ASSIGN_OR_RETURN(request.input, ToPromptInput(prompt, vocab_size));
  ASSIGN_OR_RETURN(request.sampling, ToSamplingParams(sampling, vocab_size));
  return request;
}

v1::SamplingParams MergeSampling(const v1::SamplingParams& sampling,
                                 const v1::SamplingParams& defaults) {
  v1::SamplingParams merged = defaults;
  // MergeFrom overwrites scalars that are present but appends to lists, which are to be replaced.
  if (!sampling.stop().empty()) merged.clear_stop();
  if (!sampling.stop_token_ids().empty()) merged.clear_stop_token_ids();
  if (!sampling.logit_bias().empty()) merged.clear_logit_bias();
  merged.MergeFrom(sampling);
  return merged;
}

v1::TokenLogprob ToProto(const TokenLogprob& logprob, const Engine& engine) {
  v1::TokenLogprob proto;
  proto.set_token_id(logprob.token);
  proto.set_token(engine.TokenText(logprob.token));
  proto.set_logprob(logprob.logprob);
  for (const auto& [token, value] : logprob.top) {
    v1::TopLogprob& top = *proto.add_top_logprobs();
    top.set_token_id(token);
    top.set_token(engine.TokenText(token));
    top.set_logprob(value);
  }
  return proto;
}

v1::Choice ToProto(const Choice& choice, const Engine& engine) {
  v1::Choice proto;
  proto.set_index(choice.index);
  proto.set_text(choice.text);
  proto.mutable_token_ids()->Add(choice.tokens.begin(), choice.tokens.end());
  for (const TokenLogprob& logprob : choice.logprobs) {
    *proto.add_logprobs() = ToProto(logprob, engine);
  }
  proto.set_finish_reason(ToProto(choice.finish_reason));
  proto.set_stop_reason(choice.stop_reason);
  return proto;
}

v1::Usage ToUsage(const GenerateResult& result) {
  v1::Usage usage;
  usage.set_prompt_tokens(result.num_prompt_tokens);
  int64_t completion_tokens = 0;
  for (const Choice& choice : result.choices) completion_tokens += choice.tokens.size();
  usage.set_completion_tokens(completion_tokens);
  usage.set_shared_prompt_tokens(result.num_shared_prompt_tokens);
  return usage;
}

v1::BatchResult ToBatchResult(int64_t row, const std::string& custom_id,
                              const GenerateResult& result, const Engine& engine) {
  v1::BatchResult proto;
  proto.set_row(row);
  proto.set_custom_id(custom_id);
  *proto.mutable_usage() = ToUsage(result);
  if (!result.status.ok()) {
    *proto.mutable_error() = ToRpcStatus(result.status);
    return proto;
  }
  for (const Choice& choice : result.choices) *proto.add_choices() = ToProto(choice, engine);
  return proto;
}

v1::ModelInfo ToProto(const ModelInfo& model) {
  v1::ModelInfo proto;
  proto.set_name(model.name);
  proto.set_architecture(model.architecture);
  proto.set_num_parameters(model.num_parameters);
  proto.set_num_active_parameters(model.num_active_parameters);
  proto.set_vocab_size(model.vocab_size);
  proto.set_max_model_len(model.max_model_len);
  proto.set_has_chat_template(model.has_chat_template);
  return proto;
}

}  // namespace moelight
