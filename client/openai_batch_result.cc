// Output lines: BatchResult to JSON.
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <nlohmann/json.hpp>

#include "client/openai_batch.h"
#include "google/rpc/error_details.pb.h"

namespace moelight::client {
namespace {

using Json = nlohmann::ordered_json;

// U+FFFD, which stands for bytes that are only a part of a character.
constexpr absl::string_view kReplacement = "\xef\xbf\xbd";

std::string Write(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const char* FinishReasonText(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_CANCELLED:
      return "cancelled";
    default:
      return "stop";
  }
}

// --- Log probabilities ---

// One entry of a chat's logprobs. `bytes` is null where the text is not the token's own bytes.
Json ChatToken(const std::string& token, float logprob) {
  Json bytes = nullptr;
  if (!absl::StrContains(token, kReplacement)) {
    bytes = Json::array();
    for (const char c : token) bytes.push_back(static_cast<uint8_t>(c));
  }
  return {{"token", token}, {"logprob", logprob}, {"bytes", std::move(bytes)}};
}

Json ChatLogprobs(const v1::Choice& choice) {
  Json content = Json::array();
  for (const v1::TokenLogprob& token : choice.logprobs()) {
    Json entry = ChatToken(token.token(), token.logprob());
    Json top = Json::array();
    for (const v1::TopLogprob& other : token.top_logprobs()) {
      top.push_back(ChatToken(other.token(), other.logprob()));
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

int64_t CountCodePoints(absl::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (c & 0xc0) != 0x80;
  return count;
}

Json CompletionLogprobs(const v1::Choice& choice) {
  Json tokens = Json::array();
  Json logprobs = Json::array();
  Json tops = Json::array();
  Json offsets = Json::array();
  int64_t offset = 0;
  for (const v1::TokenLogprob& token : choice.logprobs()) {
    tokens.push_back(token.token());
    logprobs.push_back(token.logprob());
    Json top = Json::object();
    for (const v1::TopLogprob& other : token.top_logprobs()) top[other.token()] = other.logprob();
    tops.push_back(std::move(top));
    offsets.push_back(offset);
    offset += CountCodePoints(token.token());
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

// --- Answers ---

Json ChoiceJson(const v1::Choice& choice, std::optional<RowKind> kind) {
  Json json = {{"index", choice.index()}};
  if (kind != RowKind::kCompletion) {
    json["message"] = {{"role", "assistant"}, {"content", choice.text()}};
  }
  if (kind != RowKind::kChat) json["text"] = choice.text();
  if (choice.logprobs().empty()) {
    json["logprobs"] = nullptr;
  } else {
    json["logprobs"] =
        kind == RowKind::kCompletion ? CompletionLogprobs(choice) : ChatLogprobs(choice);
  }
  json["finish_reason"] = FinishReasonText(choice.finish_reason());
  json["stop_reason"] = choice.stop_reason().empty() ? Json(nullptr) : Json(choice.stop_reason());
  return json;
}

// --- Errors ---

// OpenAI's codes for rows that a batch's end overtook; otherwise the server's own reason.
std::string ErrorCode(const google::rpc::Status& error) {
  if (error.code() == static_cast<int>(absl::StatusCode::kCancelled)) return "batch_cancelled";
  if (error.code() == static_cast<int>(absl::StatusCode::kDeadlineExceeded)) {
    return "batch_expired";
  }
  for (const google::protobuf::Any& detail : error.details()) {
    google::rpc::ErrorInfo info;
    if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&info) && !info.reason().empty()) {
      return absl::AsciiStrToLower(info.reason());
    }
  }
  return absl::AsciiStrToLower(
      absl::StatusCodeToString(static_cast<absl::StatusCode>(error.code())));
}

Json UsageJson(const v1::Usage& usage) {
  Json json = {{"prompt_tokens", usage.prompt_tokens()},
               {"completion_tokens", usage.completion_tokens()},
               {"total_tokens", usage.prompt_tokens() + usage.completion_tokens()}};
  if (usage.shared_prompt_tokens() > 0) {
    json["prompt_tokens_details"] = {{"cached_tokens", usage.shared_prompt_tokens()}};
  }
  return json;
}

}  // namespace

ResultFormatter::ResultFormatter(const v1::BatchJob& job, std::string model)
    : job_suffix_(absl::StripPrefix(job.job_id(), "job-")),
      created_(job.create_time().seconds()),
      model_(std::move(model)) {}

std::string ResultFormatter::Format(const v1::BatchResult& result,
                                    std::optional<RowKind> kind) const {
  const std::string key = absl::StrCat(job_suffix_, "-", result.row());
  Json line = {{"id", absl::StrCat("batch_req_", key)}, {"custom_id", result.custom_id()}};
  if (result.has_error()) {
    line["response"] = nullptr;
    line["error"] = {{"code", ErrorCode(result.error())}, {"message", result.error().message()}};
    return Write(line);
  }
  Json choices = Json::array();
  for (const v1::Choice& choice : result.choices()) choices.push_back(ChoiceJson(choice, kind));
  const bool completion = kind == RowKind::kCompletion;
  const v1::Usage& usage = result.usage();
  Json body = {{"id", absl::StrCat(completion ? "cmpl-" : "chatcmpl-", key)},
               {"object", completion ? "text_completion" : "chat.completion"},
               {"created", created_},
               {"model", model_},
               {"choices", std::move(choices)},
               {"usage", UsageJson(usage)}};
  line["response"] = {
      {"status_code", 200}, {"request_id", absl::StrCat("req_", key)}, {"body", std::move(body)}};
  line["error"] = nullptr;
  return Write(line);
}

std::string FormatLineError(int64_t line_number, const std::string& custom_id,
                            const LineError& error) {
  const Json line = {{"id", absl::StrCat("batch_req_line-", line_number)},
                     {"custom_id", custom_id.empty() ? Json(nullptr) : Json(custom_id)},
                     {"response", nullptr},
                     {"error",
                      {{"code", error.code},
                       {"message", absl::StrCat("line ", line_number, ": ", error.message)},
                       {"line", line_number}}}};
  return Write(line);
}

}  // namespace moelight::client
