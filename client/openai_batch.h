// OpenAI Batch lines: from an input line to a BatchRequest, from a BatchResult to an output line.
//
// README.md beside this file lists the fields and what becomes of each.
//
// Threads: functions are pure; a ResultFormatter is immutable. No library exception leaves.
// Errors: a line that cannot be sent yields a LineError; nothing else fails.
#ifndef MOELIGHT_CLIENT_OPENAI_BATCH_H_
#define MOELIGHT_CLIENT_OPENAI_BATCH_H_

#include <cstdint>
#include <optional>
#include <string>

#include <absl/strings/string_view.h>

#include "moelight/v1/batch_job.pb.h"

namespace moelight::client {

enum class RowKind : uint8_t { kChat, kCompletion };

// "/v1/chat/completions" or "/v1/completions".
absl::string_view RowUrl(RowKind kind);
std::optional<RowKind> RowKindFromUrl(absl::string_view url);

// Why a line fails alone.
struct LineError {
  std::string code;     // "invalid_json", "invalid_request", "duplicate_custom_id", "line_too_long"
  std::string message;  // names the field
};

struct ParsedLine {
  RowKind kind = RowKind::kChat;
  v1::BatchRequest request;        // custom_id is set as far as it could be read
  std::optional<LineError> error;  // set: `request` is not to be sent
};

// Nesting of a line beyond which it is refused. The API's own messages need fewer than ten levels;
// the rest is for tool schemas.
inline constexpr int kMaxJsonDepth = 64;
inline constexpr int kMaxCustomIdBytes = 256;
// OpenAI's and vLLM's default for /v1/completions; chats have none.
inline constexpr int kDefaultCompletionTokens = 16;

struct ParseOptions {
  // False if the job has its own default for max_tokens.
  bool default_completion_tokens = true;
};

ParsedLine ParseBatchLine(absl::string_view line, const ParseOptions& options = {});

// Output lines of one job. They depend only on what the server stores, so that reading the results
// twice gives equal lines.
class ResultFormatter {
 public:
  // `model` is the served model's name.
  ResultFormatter(const v1::BatchJob& job, std::string model);

  // One line without the newline. Without `kind` the choices carry the fields of both kinds.
  std::string Format(const v1::BatchResult& result, std::optional<RowKind> kind) const;

 private:
  const std::string job_suffix_;  // job_id without "job-"
  const int64_t created_;         // seconds since 1970
  const std::string model_;
};

// The output line of an input line that was not sent.
std::string FormatLineError(int64_t line_number, const std::string& custom_id,
                            const LineError& error);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_OPENAI_BATCH_H_
