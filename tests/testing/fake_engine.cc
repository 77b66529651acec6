#include "tests/testing/fake_engine.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <variant>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

namespace moelight {
namespace {

// Token ids become bytes, a chat its last message.
std::string PromptText(const PromptInput& input) {
  if (const auto* text = std::get_if<std::string>(&input)) return *text;
  if (const auto* tokens = std::get_if<std::vector<TokenId>>(&input)) {
    return std::string(tokens->begin(), tokens->end());
  }
  const auto& chat = std::get<ChatPrompt>(input);
  return chat.messages.empty() ? "" : chat.messages.back().content;
}

PlanInfo MakePlan(const FakeEngineOptions& options) {
  PlanInfo plan;
  plan.backend = "fake";
  plan.schedule = "serial";
  plan.max_running_sequences = options.max_running;
  plan.prediction = options.prediction;
  return plan;
}

}  // namespace

FakeEngine::FakeEngine(const FakeEngineOptions& options)
    : options_(options), plan_(MakePlan(options)), thread_([this]() { Run(); }) {}

FakeEngine::~FakeEngine() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

absl::StatusOr<RequestId> FakeEngine::Submit(GenerateRequest request, TokenSink* sink) {
  std::string prompt = PromptText(request.input);
  if (absl::StartsWith(prompt, "reject:")) return absl::InvalidArgumentError("asked to reject");
  RequestId id;
  {
    MutexLock lock(&mutex_);
    if (stopping_) return absl::CancelledError("the engine is stopping");
    if (queued_.size() >= static_cast<size_t>(options_.max_queued_requests)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the engine's queue is full, limit ", options_.max_queued_requests));
    }
    id = next_id_++;
    prompts_.push_back(prompt);
    sampling_.push_back(request.sampling);
    groups_.push_back(request.group);
    queued_.push_back({id, std::move(prompt), request.stream, sink, {}, false});
  }
  changed_.NotifyAll();
  return id;
}

void FakeEngine::Cancel(RequestId id) {
  {
    MutexLock lock(&mutex_);
    const auto cancel = [this, id](Request& request) {
      if (request.id != id || request.cancelled) return;
      request.cancelled = true;
      ++num_cancelled_;
    };
    std::for_each(queued_.begin(), queued_.end(), cancel);
    std::for_each(running_.begin(), running_.end(), cancel);
  }
  changed_.NotifyAll();
}

void FakeEngine::Tokenize(PromptInput input,
                          std::function<void(absl::StatusOr<TokenizeResult>)> done) {
  TokenizeResult result;
  result.text = PromptText(input);
  for (const char byte : result.text) {
    result.token_ids.push_back(static_cast<uint8_t>(byte));
    result.tokens.push_back(std::string(1, byte));
  }
  done(std::move(result));
}

std::string FakeEngine::TokenText(TokenId token) const {
  return token < 128 ? std::string(1, static_cast<char>(token)) : "\uFFFD";
}

void FakeEngine::NotifyWhenRoom(std::function<void()> ready) {
  {
    MutexLock lock(&mutex_);
    when_room_ = std::move(ready);
  }
  changed_.NotifyAll();
}

EngineStats FakeEngine::Stats() const {
  MutexLock lock(&mutex_);
  EngineStats stats;
  stats.num_queued = static_cast<int64_t>(queued_.size());
  stats.num_running = static_cast<int64_t>(running_.size());
  return stats;
}

void FakeEngine::StartTrace(int32_t max_steps) {
  MutexLock lock(&mutex_);
  trace_steps_ = max_steps;
}

absl::StatusOr<std::string> FakeEngine::StopTrace() {
  MutexLock lock(&mutex_);
  if (!trace_steps_.has_value()) return absl::FailedPreconditionError("no trace was started");
  std::string trace = absl::StrCat("{\"max_steps\":", *trace_steps_, "}");
  trace_steps_.reset();
  if (trace.size() < static_cast<size_t>(options_.trace_bytes)) {
    trace.resize(options_.trace_bytes, ' ');
  }
  return trace;
}

std::vector<std::string> FakeEngine::submitted_prompts() const {
  MutexLock lock(&mutex_);
  return prompts_;
}

std::vector<SamplingParams> FakeEngine::submitted_sampling() const {
  MutexLock lock(&mutex_);
  return sampling_;
}

std::vector<RequestGroup> FakeEngine::submitted_groups() const {
  MutexLock lock(&mutex_);
  return groups_;
}

int64_t FakeEngine::num_cancelled() const {
  MutexLock lock(&mutex_);
  return num_cancelled_;
}

int32_t FakeEngine::max_seen_running() const {
  MutexLock lock(&mutex_);
  return max_seen_running_;
}

void FakeEngine::SetPaused(bool paused) {
  {
    MutexLock lock(&mutex_);
    paused_ = paused;
  }
  changed_.NotifyAll();
}

bool FakeEngine::HasWorkLocked() const {
  const auto cancelled = [](const Request& request) { return request.cancelled; };
  const bool can_start =
      !paused_ && !queued_.empty() && running_.size() < static_cast<size_t>(options_.max_running);
  const bool can_notify =
      when_room_ && queued_.size() < static_cast<size_t>(options_.max_queued_requests);
  return stopping_ || can_start || can_notify ||
         std::any_of(queued_.begin(), queued_.end(), cancelled) ||
         std::any_of(running_.begin(), running_.end(), cancelled);
}

void FakeEngine::StartLocked() {
  while (!paused_ && !queued_.empty() &&
         running_.size() < static_cast<size_t>(options_.max_running)) {
    Request request = std::move(queued_.front());
    queued_.pop_front();
    if (absl::StartsWith(request.prompt, "crash:")) std::abort();
    request.due = absl::StartsWith(request.prompt, "hang:") ? Clock::time_point::max()
                                                            : Clock::now() + options_.delay;
    running_.push_back(std::move(request));
  }
  max_seen_running_ = std::max(max_seen_running_, static_cast<int32_t>(running_.size()));
}

std::vector<FakeEngine::Finish> FakeEngine::CollectLocked() {
  std::vector<Finish> finished;
  const Clock::time_point now = Clock::now();
  const auto collect = [&](auto& requests, bool running) {
    for (auto it = requests.begin(); it != requests.end();) {
      const bool cancelled = it->cancelled || stopping_;
      if (!cancelled && !(running && it->due <= now)) {
        ++it;
        continue;
      }
      GenerateResult result = Answer(it->prompt, cancelled);
      finished.push_back({std::move(*it), std::move(result)});
      it = requests.erase(it);
    }
  };
  collect(running_, true);
  collect(queued_, false);
  return finished;
}

GenerateResult FakeEngine::Answer(const std::string& prompt, bool cancelled) const {
  GenerateResult result;
  result.num_prompt_tokens = static_cast<int32_t>(prompt.size());
  result.num_shared_prompt_tokens = options_.num_shared_prompt_tokens;
  if (absl::StartsWith(prompt, "fail:") && !cancelled) {
    result.status = absl::InternalError("asked to fail");
    return result;
  }
  Choice choice;
  if (cancelled) {
    choice.finish_reason = FinishReason::kCancelled;
  } else {
    choice.text = absl::StrCat("echo: ", prompt);
    for (const char byte : choice.text) choice.tokens.push_back(static_cast<uint8_t>(byte));
  }
  result.choices.push_back(std::move(choice));
  return result;
}

void FakeEngine::Deliver(Finish finish) {
  Request& request = finish.request;
  if (request.stream && finish.result.status.ok()) {
    const Choice& choice = finish.result.choices.front();
    request.sink->OnDelta({0, choice.text, choice.tokens, {}});
  }
  request.sink->OnFinish(std::move(finish.result));
}

void FakeEngine::Run() {
  while (true) {
    std::vector<Finish> finished;
    std::function<void()> when_room;
    bool stop = false;
    {
      MutexLock lock(&mutex_);
      Clock::time_point due = Clock::time_point::max();
      for (const Request& request : running_) due = std::min(due, request.due);
      const auto has_work = [this]() { return HasWorkLocked(); };
      if (due == Clock::time_point::max()) {
        changed_.Wait(lock, has_work);
      } else {
        changed_.WaitFor(lock, std::max(due - Clock::now(), Clock::duration::zero()), has_work);
      }
      StartLocked();
      finished = CollectLocked();
      if (queued_.size() < static_cast<size_t>(options_.max_queued_requests)) {
        when_room.swap(when_room_);
      }
      stop = stopping_;
    }
    for (Finish& finish : finished) Deliver(std::move(finish));
    if (when_room) when_room();
    if (stop) return;
  }
}

}  // namespace moelight
