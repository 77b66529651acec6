// FakeEngine: an Engine without a model, for tests of what stands around it.
//
// It answers "echo: " and the prompt after a delay, from one thread of its own, in the order of
// submission, several at a time. A token is one byte of the prompt. Words at the start of a prompt
// ask for something else:
//   "fail: ..."    the request ends with Internal("asked to fail")
//   "reject: ..."  Submit returns InvalidArgument
//   "hang: ..."    the request runs until it is cancelled
//   "crash: ..."   the process aborts when the request begins to run
//
// Threads: thread-safe, as Engine. Errors: as Engine.
#ifndef MOELIGHT_TESTS_TESTING_FAKE_ENGINE_H_
#define MOELIGHT_TESTS_TESTING_FAKE_ENGINE_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/engine.h"

namespace moelight {

struct FakeEngineOptions {
  std::chrono::microseconds delay{0};  // from the start of a request to its answer
  int32_t max_running = 8;
  int32_t max_queued_requests = 1024;
  int64_t trace_bytes = 0;                        // StopTrace() returns no less
  int32_t num_shared_prompt_tokens = 0;           // of every result
  std::optional<PlanPrediction> prediction = {};  // of the plan
  ModelInfo model = {.name = "fake",
                     .architecture = "FakeForCausalLM",
                     .num_parameters = 0,
                     .num_active_parameters = 0,
                     .vocab_size = 256,
                     .max_model_len = 4096,
                     .has_chat_template = true};
};

class FakeEngine : public Engine {
 public:
  explicit FakeEngine(const FakeEngineOptions& options = {});
  ~FakeEngine() override;

  absl::StatusOr<RequestId> Submit(GenerateRequest request, TokenSink* sink) override;
  void Cancel(RequestId id) override;
  void Tokenize(PromptInput input,
                std::function<void(absl::StatusOr<TokenizeResult>)> done) override;
  std::string TokenText(TokenId token) const override;
  void NotifyWhenRoom(std::function<void()> ready) override;
  const ModelInfo& model() const override { return options_.model; }
  const PlanInfo& plan() const override { return plan_; }
  EngineStats Stats() const override;
  void StartTrace(int32_t max_steps) override;
  // {"max_steps":N} and blanks up to FakeEngineOptions::trace_bytes.
  absl::StatusOr<std::string> StopTrace() override;

  // What happened so far.
  std::vector<std::string> submitted_prompts() const;  // accepted ones, in order
  std::vector<SamplingParams> submitted_sampling() const;
  std::vector<RequestGroup> submitted_groups() const;
  int64_t num_cancelled() const;
  int32_t max_seen_running() const;  // most requests that ran at the same time

  // While paused no request starts. For tests that fill the queue.
  void SetPaused(bool paused);

 private:
  using Clock = std::chrono::steady_clock;
  struct Request {
    RequestId id = 0;
    std::string prompt;
    bool stream = false;
    TokenSink* sink = nullptr;
    Clock::time_point due;  // set at the start
    bool cancelled = false;
  };
  struct Finish {
    Request request;
    GenerateResult result;
  };

  void Run();
  bool HasWorkLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Finish> CollectLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Deliver(Finish finish);
  GenerateResult Answer(const std::string& prompt, bool cancelled) const;

  const FakeEngineOptions options_;
  const PlanInfo plan_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Request> queued_ ABSL_GUARDED_BY(mutex_);
  std::vector<Request> running_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> when_room_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> prompts_ ABSL_GUARDED_BY(mutex_);
  std::vector<SamplingParams> sampling_ ABSL_GUARDED_BY(mutex_);
  std::vector<RequestGroup> groups_ ABSL_GUARDED_BY(mutex_);
  RequestId next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t num_cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t max_seen_running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<int32_t> trace_steps_ ABSL_GUARDED_BY(mutex_);  // of the trace that was started
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace moelight

#endif  // MOELIGHT_TESTS_TESTING_FAKE_ENGINE_H_
