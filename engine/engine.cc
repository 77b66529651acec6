#include "engine/engine.h"

#include <atomic>
#include <filesystem>
#include <optional>
#include <random>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/active_request.h"
#include "engine/backend/backend.h"
#include "engine/base/mutex.h"
#include "engine/base/parallel.h"
#include "engine/base/status_macros.h"
#include "engine/cpu_options.h"
#include "engine/decision.h"
#include "engine/engine_plan.h"
#include "engine/engine_thread.h"
#include "engine/link_probe.h"
#include "engine/memory/device_weights.h"
#include "engine/model/generation_config.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_loader.h"
#include "engine/model_info.h"
#include "engine/pipeline/step_runner.h"
#include "engine/pipeline/trace.h"
#include "engine/plan_evaluation.h"
#include "engine/planner/step_predictor.h"
#include "engine/prompt_preparer.h"
#include "engine/sampling/sampling_defaults.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"

namespace moelight {
namespace {

// The parts of an engine in the order in which they depend on each other; destroyed in reverse.
struct EngineParts {
  Decision decision;
  GenerationConfig generation_config;
  std::unique_ptr<Tokenizer> tokenizer;         // null: the folder has none
  std::unique_ptr<ChatTemplate> chat_template;  // null: the folder has none
  std::unique_ptr<DeviceWeights> weights;
  std::unique_ptr<KvCache> kv_cache;
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<StagedCopy> staged_copy;  // null: streamed weights are pinned, or there are none
  double probed_h2d_bytes_per_s = 0;        // 0: there is no link
  TraceRecorder trace;
  // Not pinned: its threads share the cores with those of the backends, which rest meanwhile.
  std::unique_ptr<ParallelRunner> sampling_runner;
  std::unique_ptr<StepPredictor> predictor;  // null: the hardware is not known
  std::unique_ptr<StepRunner> step_runner;

  bool pinned() const { return weights->pinned().ok() && kv_cache->pinned().ok(); }
};

absl::Status LoadTokenizer(const std::string& folder, EngineParts* parts) {
  const std::string path = (std::filesystem::path(folder) / "tokenizer.json").string();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return absl::OkStatus();
  ASSIGN_OR_RETURN(parts->tokenizer, Tokenizer::FromFile(path));
  absl::StatusOr<std::unique_ptr<ChatTemplate>> chat_template =
      ChatTemplate::FromModelFolder(folder);
  if (chat_template.ok()) {
    parts->chat_template = *std::move(chat_template);
  } else if (!absl::IsNotFound(chat_template.status())) {
    return chat_template.status();
  }
  return absl::OkStatus();
}

SamplingDefaults MakeSamplingDefaults(const GenerationConfig& config,
                                      const EngineOptions& options) {
  SamplingDefaults defaults;
  defaults.temperature = config.temperature;
  defaults.top_p = config.top_p;
  defaults.top_k = config.top_k;
  defaults.min_p = config.min_p;
  defaults.repetition_penalty = config.repetition_penalty;
  defaults.eos_token_ids = config.eos_token_ids;
  if (options.dummy_mean_output_tokens > 0) {
    defaults.chance_to_end = 1.0 / options.dummy_mean_output_tokens;
  }
  return defaults;
}

void WarnUnpinned(const absl::Status& status, Logger& logger) {
  if (status.ok()) return;
  logger.Warning("host_memory_not_pinned",
                 {{"reason", status.message()},
                  {"effect",
                   "copies go through a small pinned buffer, at a fraction of the link's "
                   "speed"},
                  {"remedy", "raise the memlock limit (ulimit -l) above engine.host_memory"}});
}

// Memory for everything that the plan sized.
absl::Status PlaceParts(const EngineOptions& options, std::unique_ptr<ModelWeights> loaded,
                        Logger& logger, EngineParts* parts) {
  const Decision& decision = parts->decision;
  Backend& backend = *decision.backend;
  const EnginePlan& plan = decision.plan;
  ASSIGN_OR_RETURN(parts->weights, DeviceWeights::Create(decision.config, plan.weights,
                                                         plan.experts, std::move(loaded), backend));
  WarnUnpinned(parts->weights->pinned(), logger);
  RETURN_IF_ERROR(backend.Reserve(plan.op_limits));
  if (decision.host_backend != nullptr) {
    RETURN_IF_ERROR(decision.host_backend->Reserve(plan.host_op_limits));
  }
  ASSIGN_OR_RETURN(parts->kv_cache,
                   KvCache::Create(plan.kv_cache, backend, NumCpuThreads(options)));
  WarnUnpinned(parts->kv_cache->pinned(), logger);
  parts->scheduler = std::make_unique<Scheduler>(plan.scheduler, *parts->kv_cache);
  if (!parts->weights->pinned().ok()) {
    ASSIGN_OR_RETURN(parts->staged_copy, StagedCopy::Create(backend, NumCpuThreads(options)));
  }
  ASSIGN_OR_RETURN(
      parts->step_runner,
      StepRunner::Create(
          {plan.schedule, plan.cut, plan.activations},
          {decision.config, parts->weights->weights(), parts->weights->experts(), backend,
           decision.attention_backend(), *parts->kv_cache, parts->staged_copy.get()}));
  parts->sampling_runner = std::make_unique<ParallelRunner>(NumCpuThreads(options));
  if (decision.options.hardware != nullptr) {
    parts->predictor = std::make_unique<StepPredictor>(decision.config, FormatsOf(plan),
                                                       *decision.options.hardware);
  }
  return absl::OkStatus();
}

absl::Status BuildParts(const EngineOptions& options, Logger& logger, EngineParts* parts) {
  ASSIGN_OR_RETURN(parts->decision, Decide(options));
  const Decision& decision = parts->decision;
  if (!decision.why_not_pinned.ok()) {
    logger.Warning("threads_not_pinned", {{"reason", decision.why_not_pinned.message()},
                                          {"effect", "the system moves compute threads about"}});
  }
  ASSIGN_OR_RETURN(parts->generation_config, LoadGenerationConfig(options.model, decision.config));
  RETURN_IF_ERROR(ValidateSamplingDefaults(MakeSamplingDefaults(parts->generation_config, options),
                                           decision.config.vocab_size));
  RETURN_IF_ERROR(LoadTokenizer(options.model, parts));
  ASSIGN_OR_RETURN(const LoadFormat load_format, ParseLoadFormat(options.load_format));
  if (options.dummy_mean_output_tokens > 0 && load_format != LoadFormat::kDummy) {
    return absl::InvalidArgumentError(
        "dummy_mean_output_tokens ends answers by chance, which needs load_format dummy");
  }
  if (decision.backend->has_device_memory()) {
    // Before the memory is taken. Where not even the probe's memory can be pinned, there is nothing
    // to compare with.
    const absl::StatusOr<double> rate =
        ProbeHostToDevice(*decision.backend, decision.options.weight_page_bytes);
    if (!rate.ok() && !absl::IsResourceExhausted(rate.status())) return rate.status();
    parts->probed_h2d_bytes_per_s = rate.value_or(0);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<ModelWeights> loaded,
                   LoadWeights(options.model, decision.config, decision.plan.weights, load_format,
                               NumCpuThreads(options), logger));
  return PlaceParts(options, std::move(loaded), logger, parts);
}

PlanInfo DescribeParts(const EngineParts& parts) {
  PlanInfo info = Describe(parts.decision, parts.pinned());
  info.probed_h2d_bytes_per_s = parts.probed_h2d_bytes_per_s;
  return info;
}

class EngineImpl : public Engine {
 public:
  EngineImpl(const EngineOptions& options, std::unique_ptr<EngineParts> parts, Logger& logger,
             EngineObserver* observer)
      : parts_(std::move(parts)),
        model_(DescribeModel(options, parts_->decision.config, parts_->chat_template != nullptr)),
        plan_(DescribeParts(*parts_)),
        max_queued_requests_(options.max_queued_requests),
        observer_(observer),
        seeds_(std::random_device()()) {
    thread_.emplace(EngineThreadParts{
        *parts_->step_runner, *parts_->scheduler, *parts_->kv_cache, parts_->predictor.get(),
        parts_->decision.plan.experts.page_bytes, parts_->trace, parts_->tokenizer.get(),
        MakeSamplingDefaults(parts_->generation_config, options), model_.vocab_size,
        model_.max_model_len, *parts_->sampling_runner, logger, observer,
        [this]() { LeaveQueue(); }});
    preparer_.emplace(parts_->tokenizer.get(), parts_->chat_template.get(), model_.vocab_size,
                      options.tokenizer_threads, options.max_queued_requests);
  }

  ~EngineImpl() override {
    stopping_ = true;
    preparer_.reset();  // posts nothing more to the engine thread
    thread_.reset();
  }

  absl::StatusOr<RequestId> Submit(GenerateRequest request, TokenSink* sink) override;
  void Cancel(RequestId id) override { thread_->Cancel(id); }
  void Tokenize(PromptInput input,
                std::function<void(absl::StatusOr<TokenizeResult>)> done) override;
  void NotifyWhenRoom(std::function<void()> ready) override;

  std::string TokenText(TokenId token) const override {
    if (parts_->tokenizer == nullptr) return "";
    return parts_->tokenizer->Decode({token}, /*skip_special_tokens=*/false);
  }
  void StartTrace(int32_t max_steps) override { parts_->trace.Start(max_steps); }
  absl::StatusOr<std::string> StopTrace() override { return parts_->trace.Stop(); }

  const ModelInfo& model() const override { return model_; }
  const PlanInfo& plan() const override { return plan_; }
  EngineStats Stats() const override {
    return {num_queued_.load(), thread_->num_running(), thread_->num_kv_pages_used(),
            plan_.num_kv_pages, thread_->ExpertShares()};
  }

 private:
  // How full the queue may be for a request of the batch to enter it. The rest is for interactive
  // ones, or the rows of a large job that wait for pages would leave them no place.
  int64_t BatchQueueLimit() const { return max_queued_requests_ - max_queued_requests_ / 2; }
  // One place in the queue; false if there is none.
  bool EnterQueue(int32_t priority);
  void LeaveQueue();
  // On a tokenizer thread: passes the request on, or answers it if its prompt is bad.
  void OnPrepared(PreparedRequest request, absl::StatusOr<PreparedPrompt> prompt);
  uint64_t DrawSeed();

  const std::unique_ptr<EngineParts> parts_;  // they refer to each other: never moved
  const ModelInfo model_;
  const PlanInfo plan_;
  const int32_t max_queued_requests_;
  EngineObserver* const observer_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int64_t> num_queued_ = 0;
  std::atomic<RequestId> next_id_ = 1;
  Mutex mutex_;
  std::mt19937_64 seeds_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> room_waiter_ ABSL_GUARDED_BY(mutex_);
  std::optional<EngineThread> thread_;
  std::optional<PromptPreparer> preparer_;
};

bool EngineImpl::EnterQueue(int32_t priority) {
  const int64_t limit = priority >= kInteractivePriority ? max_queued_requests_ : BatchQueueLimit();
  // Never above the limit, not even for a moment: NotifyWhenRoom() would see a full queue.
  int64_t num_queued = num_queued_.load();
  while (num_queued < limit) {
    if (num_queued_.compare_exchange_weak(num_queued, num_queued + 1)) return true;
  }
  return false;
}

void EngineImpl::LeaveQueue() {
  num_queued_.fetch_sub(1);
  std::function<void()> waiter;
  {
    MutexLock lock(&mutex_);
    waiter.swap(room_waiter_);
  }
  if (waiter) waiter();
}

uint64_t EngineImpl::DrawSeed() {
  MutexLock lock(&mutex_);
  return seeds_();
}

absl::StatusOr<RequestId> EngineImpl::Submit(GenerateRequest request, TokenSink* sink) {
  if (stopping_) return absl::CancelledError("the engine is stopping");
  RETURN_IF_ERROR(ValidateSamplingParams(request.sampling, model_.vocab_size));
  if (!EnterQueue(request.group.priority)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        num_queued_.load(), " requests are waiting; the limit is ", max_queued_requests_, ", and ",
        BatchQueueLimit(), " for rows of jobs (engine.max_queued_requests)"));
  }
  PreparedRequest prepared;
  prepared.id = next_id_.fetch_add(1);
  prepared.sink = sink;
  prepared.sampling = std::move(request.sampling);
  prepared.stream = request.stream;
  prepared.group = std::move(request.group);
  prepared.seed = prepared.sampling.seed.has_value() ? *prepared.sampling.seed : DrawSeed();
  prepared.submit_time = std::chrono::steady_clock::now();
  const RequestId id = prepared.id;
  thread_->Announce(id);
  // Moving into a shared pointer, because std::function wants copyable captures.
  auto shared = std::make_shared<PreparedRequest>(std::move(prepared));
  const bool posted = preparer_->Post(std::move(request.input),
                                      [this, shared](absl::StatusOr<PreparedPrompt> prompt) {
                                        OnPrepared(std::move(*shared), std::move(prompt));
                                      });
  if (!posted) {
    thread_->Withdraw(id);
    LeaveQueue();
    return absl::ResourceExhaustedError("the tokenizer's queue is full");
  }
  return id;
}

void EngineImpl::OnPrepared(PreparedRequest request, absl::StatusOr<PreparedPrompt> prompt) {
  absl::Status status = prompt.status();
  if (status.ok()) {
    request.prompt = std::move(prompt->token_ids);
    status = CheckLength(request, model_.max_model_len);
  }
  if (status.ok()) {
    thread_->Post(std::move(request));
    return;
  }
  thread_->Withdraw(request.id);
  GenerateResult result;
  result.status = status;
  result.num_prompt_tokens = static_cast<int32_t>(request.prompt.size());
  if (observer_ != nullptr) {
    const std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - request.submit_time;
    observer_->OnRequestFinished(result,
                                 {result.num_prompt_tokens, 0, elapsed.count(), elapsed.count()});
  }
  // Before the answer: who has seen it finds the room that it leaves.
  LeaveQueue();
  request.sink->OnFinish(std::move(result));
}

void EngineImpl::Tokenize(PromptInput input,
                          std::function<void(absl::StatusOr<TokenizeResult>)> done) {
  auto shared_done = std::make_shared<decltype(done)>(std::move(done));
  const bool posted =
      preparer_->Post(std::move(input), [this, shared_done](absl::StatusOr<PreparedPrompt> prompt) {
        if (!prompt.ok()) return (*shared_done)(prompt.status());
        TokenizeResult result;
        result.token_ids = std::move(prompt->token_ids);
        result.text = std::move(prompt->text);
        for (TokenId token : result.token_ids) result.tokens.push_back(TokenText(token));
        (*shared_done)(std::move(result));
      });
  if (!posted) (*shared_done)(absl::ResourceExhaustedError("the tokenizer's queue is full"));
}

void EngineImpl::NotifyWhenRoom(std::function<void()> ready) {
  {
    MutexLock lock(&mutex_);
    room_waiter_ = std::move(ready);
  }
  // Room may have opened between the refused Submit and this call.
  if (num_queued_.load() >= BatchQueueLimit()) return;
  std::function<void()> waiter;
  {
    MutexLock lock(&mutex_);
    waiter.swap(room_waiter_);
  }
  if (waiter) waiter();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options, Logger& logger,
                                                       EngineObserver* observer) {
  auto parts = std::make_unique<EngineParts>();
  RETURN_IF_ERROR(BuildParts(options, logger, parts.get()));
  logger.Info("engine_ready",
              {{"backend", parts->decision.backend->description()},
               {"schedule", parts->decision.plan.schedule->name},
               {"kv_pages", parts->decision.plan.kv_cache.num_pages},
               {"host_bytes", parts->decision.plan.budget.Total(MemoryTier::kHost)}});
  return std::make_unique<EngineImpl>(options, std::move(parts), logger, observer);
}

}  // namespace moelight
