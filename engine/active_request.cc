#include "engine/active_request.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

namespace moelight {
namespace {

double SecondsBetween(SteadyTime begin, SteadyTime end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

absl::Status CheckLength(const PreparedRequest& request, int32_t max_model_len) {
  const int64_t num_prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (num_prompt_tokens >= max_model_len) {
    return absl::InvalidArgumentError(absl::StrCat("prompt: has ", num_prompt_tokens,
                                                   " tokens, limit ", max_model_len - 1,
                                                   " (one less than the context)"));
  }
  const int64_t max_tokens = request.sampling.max_tokens.value_or(1);
  if (num_prompt_tokens + max_tokens > max_model_len) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.max_tokens: ", max_tokens, " after a prompt of ", num_prompt_tokens,
                     " tokens exceed the context of ", max_model_len));
  }
  return absl::OkStatus();
}

ActiveRequest::ActiveRequest(PreparedRequest request, const Tokenizer* tokenizer,
                             const SamplingDefaults& defaults, int32_t vocab_size,
                             int32_t max_model_len)
    : request_(std::move(request)) {
  const int32_t num_prompt_tokens = static_cast<int32_t>(request_.prompt.size());
  const int32_t num_left = max_model_len - num_prompt_tokens;
  for (int32_t i = 0; i < request_.sampling.n; ++i) {
    auto choice = std::make_unique<ActiveChoice>();
    choice->request = this;
    choice->output.index = i;
    choice->sequence.tokens = request_.prompt;
    choice->sequence.num_prompt_tokens = num_prompt_tokens;
    choice->sequence.max_tokens_total =
        num_prompt_tokens + std::min(num_left, request_.sampling.max_tokens.value_or(num_left));
    choice->sequence.ends_at_max = request_.sampling.ignore_eos && request_.sampling.stop.empty() &&
                                   request_.sampling.stop_token_ids.empty();
    choice->sequence.group = request_.group;
    choice->sampler.emplace(request_.sampling, defaults, request_.seed, i, vocab_size,
                            request_.prompt);
    choice->stop_checker.emplace(request_.sampling, defaults, num_left);
    if (tokenizer != nullptr) {
      choice->detokenizer.emplace(tokenizer, /*skip_special_tokens=*/true);
    }
    choices_.push_back(std::move(choice));
  }
}

bool ActiveRequest::AllDone() const {
  return std::all_of(choices_.begin(), choices_.end(),
                     [](const auto& choice) { return choice->done; });
}

bool ActiveRequest::NoteStarted(SteadyTime now) {
  if (start_time_.has_value()) return false;
  start_time_ = now;
  return true;
}

bool ActiveRequest::Advance(ActiveChoice& choice,
                            absl::StatusOr<SequenceSampler::Sampled> sampled) {
  Choice& output = choice.output;
  if (!sampled.ok()) {
    error_ = sampled.status();
    output.finish_reason = FinishReason::kError;
    return true;
  }
  choice.sequence.tokens.push_back(sampled->token);
  output.tokens.push_back(sampled->token);
  // A token that ends the sequence has no text, and must not push out what the detokenizer holds.
  const bool has_text =
      choice.detokenizer.has_value() && !choice.stop_checker->EndsSequence(sampled->token);
  const std::string new_text =
      has_text ? choice.detokenizer->Append(sampled->token) : std::string();
  StopDecision decision = choice.stop_checker->Append(sampled->token, new_text);
  std::string text = std::move(decision.emit);
  if (decision.stop) {
    output.finish_reason = decision.reason;
    output.stop_reason = std::move(decision.stop_reason);
    FlushText(choice, &text);
  }
  output.text += text;
  if (sampled->logprob.has_value()) output.logprobs.push_back(*sampled->logprob);
  if (request_.stream) {
    TokenDelta delta;
    delta.choice = output.index;
    delta.text = std::move(text);
    delta.tokens.push_back(sampled->token);
    if (sampled->logprob.has_value()) delta.logprobs.push_back(*std::move(sampled->logprob));
    request_.sink->OnDelta(std::move(delta));
  }
  return decision.stop;
}

void ActiveRequest::FlushText(ActiveChoice& choice, std::string* text) {
  const std::string tail =
      choice.detokenizer.has_value() ? choice.detokenizer->Flush() : std::string();
  StopDecision last = choice.stop_checker->Flush(tail);
  *text += last.emit;
  if (!last.stop) return;
  choice.output.finish_reason = last.reason;
  choice.output.stop_reason = std::move(last.stop_reason);
}

void ActiveRequest::Finish(const absl::Status& status, FinishReason reason,
                           EngineObserver* observer) {
  GenerateResult result;
  result.status = status.ok() ? error_ : status;
  result.num_prompt_tokens = static_cast<int32_t>(request_.prompt.size());
  // The choices share the prompt with each other; what counts is what others had computed.
  result.num_shared_prompt_tokens = choices_.front()->sequence.num_shared_tokens;
  RequestStats stats;
  stats.num_prompt_tokens = result.num_prompt_tokens;
  for (auto& choice : choices_) {
    if (!choice->done) {
      FlushText(*choice, &choice->output.text);
      choice->output.finish_reason = reason;
    }
    stats.num_generated_tokens += static_cast<int32_t>(choice->output.tokens.size());
    result.choices.push_back(std::move(choice->output));
  }
  if (observer != nullptr) {
    const SteadyTime now = std::chrono::steady_clock::now();
    stats.queue_seconds = SecondsBetween(request_.submit_time, start_time_.value_or(now));
    stats.e2e_seconds = SecondsBetween(request_.submit_time, now);
    observer->OnRequestFinished(result, stats);
  }
  request_.sink->OnFinish(std::move(result));
}

}  // namespace moelight
