// What goes into the engine and what comes out: GenerateRequest, SamplingParams, GenerateResult.
//
// Plain values, no threads, no protobuf. Together with engine.h this is all the server sees.
#ifndef MOELIGHT_ENGINE_REQUEST_H_
#define MOELIGHT_ENGINE_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

namespace moelight {

using TokenId = int32_t;
using RequestId = uint64_t;

// Upper limits of the request format itself. Limits an operator may want to move are configuration.
inline constexpr int kMaxStopStrings = 16;       // OpenAI allows 4, vLLM any number
inline constexpr int kMaxStopStringBytes = 256;  // bounds the text held back while streaming
inline constexpr int kMaxStopTokenIds = 64;
inline constexpr int kMaxLogprobs = 20;  // as OpenAI and vLLM
inline constexpr int kMaxLogitBias = 1024;
inline constexpr int kMaxChoices = 16;

// How the next token is chosen. Names, ranges and defaults are vLLM's. An unset optional takes the
// model's generation_config.json value, then the default given here.
struct SamplingParams {
  std::optional<float> temperature;         // [0, 2], 0 is greedy; default 1
  std::optional<float> top_p;               // (0, 1]; default 1
  std::optional<int32_t> top_k;             // >= 1, or -1 or 0 for all; default all
  std::optional<float> min_p;               // [0, 1]; default 0
  std::optional<float> repetition_penalty;  // (0, 2]; over prompt and output; default 1
  std::optional<float> presence_penalty;    // [-2, 2]; over output; default 0
  std::optional<float> frequency_penalty;   // [-2, 2]; over output; default 0
  std::optional<uint64_t> seed;             // default: drawn once per request
  std::optional<int32_t> max_tokens;        // >= 1; default: what the context has left
  std::optional<int32_t> min_tokens;        // >= 0, no end of sequence or stop before; default 0
  std::vector<std::string> stop;            // generation ends before the first of these
  std::vector<TokenId> stop_token_ids;      // generation ends after any of these
  bool ignore_eos = false;
  std::optional<int32_t> logprobs;  // [0, 20] alternatives per token; unset: none are returned
  int32_t n = 1;                    // choices per request
  std::vector<std::pair<TokenId, float>> logit_bias;  // each in [-100, 100]
};

// InvalidArgument naming the field, the value and the range. Token ids are checked against
// `vocab_size`.
absl::Status ValidateSamplingParams(const SamplingParams& params, int32_t vocab_size);

// One message of a chat, in the fields that chat templates read.
struct ChatMessage {
  std::string role;
  std::string content;
  std::string name;               // empty: absent
  std::string reasoning_content;  // empty: absent
  std::string tool_call_id;       // empty: absent
  std::string tool_calls_json;    // a JSON array as in the OpenAI API; empty: absent
};

struct ChatPrompt {
  std::vector<ChatMessage> messages;
  std::string tools_json;                 // a JSON array of tool definitions; empty: none
  std::string chat_template_kwargs_json;  // a JSON object given to the template; empty: none
  bool add_generation_prompt = true;
};

// Text is tokenized as it stands, with the tokenizer's own special tokens recognised in it.
using PromptInput = std::variant<std::string, std::vector<TokenId>, ChatPrompt>;

// Whose a request is: what decides its place among those that wait, and what it may share.
struct RequestGroup {
  // Clients share the machine in proportion to their weights, in tokens computed for them. Requests
  // that name no client count as one client's.
  std::string client = {};
  double client_weight = 1;  // above 0
  // A higher one goes before all lower ones.
  int32_t priority = 0;
  // Requests of one job share the KV pages of equal prompt beginnings, and the lengths of answers
  // that have ended tell how long the others will be. Empty: shares with none.
  std::string job = {};
};
// Of interactive requests: above every job's.
inline constexpr int32_t kInteractivePriority = 1000;

struct GenerateRequest {
  PromptInput input;
  SamplingParams sampling;
  bool stream = false;  // true: TokenSink::OnDelta is called as text becomes final
  RequestGroup group;
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kError };
absl::string_view FinishReasonName(FinishReason reason);  // "stop", "length", "cancelled", "error"

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;                           // natural logarithm, of the distribution before
                                               // temperature and truncation, as vLLM reports it
  std::vector<std::pair<TokenId, float>> top;  // most likely first
};

struct Choice {
  int32_t index = 0;
  std::string text;                    // valid UTF-8, without the stop string
  std::vector<TokenId> tokens;         // as sampled, including an end-of-sequence token
  std::vector<TokenLogprob> logprobs;  // one per token if asked for
  FinishReason finish_reason = FinishReason::kStop;
  std::string stop_reason;  // the stop string or token id that ended it; empty otherwise
};

struct GenerateResult {
  absl::Status status;  // not OK: `choices` may hold what was generated before
  int32_t num_prompt_tokens = 0;
  // Of those, how many were not computed because another request of the job had computed them.
  int32_t num_shared_prompt_tokens = 0;
  std::vector<Choice> choices;
};

// A piece of one choice, final: later pieces only add to it.
struct TokenDelta {
  int32_t choice = 0;
  std::string text;                    // valid UTF-8
  std::vector<TokenId> tokens;         // tokens sampled since the last delta
  std::vector<TokenLogprob> logprobs;  // one per token if asked for
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_REQUEST_H_
