#include "engine/engine_thread.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Logits that a thread looks through before it asks for more: some 10 us of work, the price of
// waking another thread.
constexpr int64_t kSampledLogits = 1 << 16;

}  // namespace

EngineThread::EngineThread(EngineThreadParts parts)
    : parts_(std::move(parts)),
      sampler_scratch_(parts_.sampling_runner.num_threads()),
      step_watch_(parts_.logger) {
  thread_ = std::thread([this]() { Loop(); });
}

EngineThread::~EngineThread() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyOne();
  thread_.join();
}

void EngineThread::Announce(RequestId id) {
  MutexLock lock(&mutex_);
  announced_.emplace(id, false);
}

void EngineThread::Withdraw(RequestId id) {
  MutexLock lock(&mutex_);
  announced_.erase(id);
}

void EngineThread::Post(PreparedRequest request) {
  {
    MutexLock lock(&mutex_);
    auto it = announced_.find(request.id);
    CHECK(it != announced_.end());
    if (it->second) cancels_.push_back(request.id);
    announced_.erase(it);
    inbox_.push_back(std::move(request));
  }
  wake_.NotifyOne();
}

void EngineThread::Cancel(RequestId id) {
  {
    MutexLock lock(&mutex_);
    auto it = announced_.find(id);
    if (it != announced_.end()) {
      it->second = true;
      return;
    }
    cancels_.push_back(id);
  }
  wake_.NotifyOne();
}

void EngineThread::Loop() {
  while (TakeMessages()) {
    absl::Status status = Step();
    // After every round, a cancel may have left nothing to step.
    StoreLevels();
    if (status.ok()) continue;
    broken_ = absl::Status(status.code(), absl::StrCat("the device failed: ", status.message()));
    parts_.logger.Error("engine_broken", {{"reason", broken_.message()}});
    if (parts_.observer != nullptr) parts_.observer->OnDeviceFailure(broken_);
    EndAll(broken_, FinishReason::kError);
  }
  EndAll(absl::CancelledError("the engine is stopping"), FinishReason::kCancelled);
}

bool EngineThread::TakeMessages() {
  bool go_on = true;
  {
    MutexLock lock(&mutex_);
    if (requests_.empty()) {
      wake_.Wait(lock, [this]() { return stopping_ || !inbox_.empty() || !cancels_.empty(); });
    }
    go_on = !stopping_;
    taken_.swap(inbox_);
    taken_cancels_.swap(cancels_);
  }
  for (PreparedRequest& request : taken_) Accept(std::move(request));
  taken_.clear();
  for (RequestId id : taken_cancels_) CancelNow(id);
  taken_cancels_.clear();
  return go_on;
}

void EngineThread::Accept(PreparedRequest prepared) {
  auto request = std::make_unique<ActiveRequest>(std::move(prepared), parts_.tokenizer,
                                                 parts_.sampling_defaults, parts_.vocab_size,
                                                 parts_.max_model_len);
  ActiveRequest* const accepted = request.get();
  requests_.emplace(accepted->id(), std::move(request));
  absl::Status status = broken_;
  if (status.ok()) status = parts_.scheduler.CheckFits(accepted->choices()[0]->sequence);
  if (!status.ok()) {
    parts_.on_dequeued();
    accepted->Finish(status, FinishReason::kError, parts_.observer);
    requests_.erase(accepted->id());
    return;
  }
  for (auto& choice : accepted->choices()) {
    choice_of_.emplace(&choice->sequence, choice.get());
    parts_.scheduler.Add(&choice->sequence);
  }
}

void EngineThread::CancelNow(RequestId id) {
  auto it = requests_.find(id);
  if (it == requests_.end()) return;
  End(it->second.get(), absl::CancelledError("the request was cancelled"),
      FinishReason::kCancelled);
}

absl::Status EngineThread::Step() {
  if (requests_.empty()) return absl::OkStatus();
  const SteadyTime begin = std::chrono::steady_clock::now();
  parts_.scheduler.NextBatch(&batch_);
  CHECK_GT(batch_.num_sequences(), 0) << "sequences are waiting and none was admitted";
  NoteStarted();
  ASSIGN_OR_RETURN(const StepResult result, parts_.step_runner.Run(&batch_));
  parts_.scheduler.StepDone(batch_);
  {
    MutexLock lock(&shares_mutex_);
    expert_counts_ = parts_.step_runner.expert_counts();
  }
  // What was predicted looks at the batch as it ran, so before its sequences grow.
  StepStats stats = StatsOf(result);
  SampleBatch();
  AdvanceBatch();
  stats.wall_us =
      std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  parts_.trace.RecordStep(result.plan->plan, result.timings,
                          {stats.wall_us, stats.predicted_wall_us});
  Report(stats);
  return absl::OkStatus();
}

void EngineThread::StoreLevels() {
  num_running_.store(parts_.scheduler.num_running(), std::memory_order_relaxed);
  num_kv_pages_used_.store(parts_.kv_cache.num_pages() - parts_.kv_cache.num_free_pages(),
                           std::memory_order_relaxed);
}

std::vector<double> EngineThread::ExpertShares() const {
  MutexLock lock(&shares_mutex_);
  const double total = static_cast<double>(
      std::accumulate(expert_counts_.begin(), expert_counts_.end(), int64_t{0}));
  std::vector<double> shares;
  if (total == 0) return shares;
  for (int64_t count : expert_counts_) shares.push_back(static_cast<double>(count) / total);
  return shares;
}

void EngineThread::NoteStarted() {
  const SteadyTime now = std::chrono::steady_clock::now();
  for (const Sequence* sequence : parts_.scheduler.admitted()) {
    if (choice_of_.at(sequence)->request->NoteStarted(now)) parts_.on_dequeued();
  }
}

void EngineThread::SampleBatch() {
  const int32_t count = batch_.num_outputs();
  sampled_choices_.clear();
  for (int32_t i = 0; i < count; ++i) {
    sampled_choices_.push_back(choice_of_.at(batch_.output(i)));
  }
  sampled_tokens_.assign(count, SequenceSampler::Sampled());
  const int64_t grain = std::max<int64_t>(1, kSampledLogits / parts_.vocab_size);
  ParallelRunner& runner = parts_.sampling_runner;
  runner.For(count, grain, [&](int64_t begin, int64_t end) {
    SamplerScratch& scratch = sampler_scratch_[runner.WorkerIndex()];
    for (int64_t i = begin; i < end; ++i) {
      sampled_tokens_[i] = sampled_choices_[i]->sampler->Sample(
          parts_.step_runner.logits(static_cast<int32_t>(i)), scratch);
    }
  });
}

void EngineThread::AdvanceBatch() {
  for (int32_t i = 0; i < batch_.num_outputs(); ++i) {
    ActiveRequest::ActiveChoice& choice = *sampled_choices_[i];
    ActiveRequest* const request = choice.request;
    if (!request->Advance(choice, std::move(sampled_tokens_[i]))) continue;
    parts_.scheduler.Remove(&choice.sequence, /*ended=*/true);
    choice_of_.erase(&choice.sequence);
    choice.done = true;
    if (request->AllDone()) End(request, absl::OkStatus(), FinishReason::kStop);
  }
}

StepStats EngineThread::StatsOf(const StepResult& result) const {
  StepStats stats;
  stats.num_sequences = batch_.num_sequences();
  stats.num_generated_tokens = batch_.num_outputs();
  stats.num_decode_tokens = batch_.num_decode_tokens();
  stats.num_prefill_tokens = batch_.num_prefill_tokens();
  stats.step_us = result.times.step_us;
  stats.lane_busy_us = result.times.busy_us;
  stats.lane_stall_us = result.times.stall_us;
  stats.transfer_overlapped_us = result.times.transfer_overlapped_us;
  stats.compute_overlapped_us = result.times.compute_overlapped_us;
  stats.h2d_bytes = result.h2d_bytes;
  stats.d2h_bytes = result.d2h_bytes;
  const SchedulerCounters& counters = parts_.scheduler.counters();
  stats.num_preempted_sequences = counters.num_preempted - reported_.num_preempted;
  stats.num_recomputed_tokens = counters.num_recomputed_tokens - reported_.num_recomputed_tokens;
  stats.num_shared_prompt_tokens = counters.num_shared_tokens - reported_.num_shared_tokens;
  if (parts_.predictor == nullptr) return stats;
  const StepPrediction prediction = parts_.predictor->Predict(
      result.plan->plan, ShapeOf(batch_, parts_.predictor->config().sliding_window),
      result.plan->shape.weights, parts_.weight_page_bytes);
  stats.predicted_wall_us = prediction.step_us;
  stats.predicted_lane_us = prediction.busy_us;
  return stats;
}

void EngineThread::Report(const StepStats& stats) {
  reported_ = parts_.scheduler.counters();
  step_watch_.Observe(stats);
  if (parts_.observer != nullptr) parts_.observer->OnStep(stats);
}

void EngineThread::End(ActiveRequest* request, const absl::Status& status, FinishReason reason) {
  for (auto& choice : request->choices()) {
    if (choice->done) continue;
    parts_.scheduler.Remove(&choice->sequence, /*ended=*/false);
    choice_of_.erase(&choice->sequence);
  }
  // Before the answer: who has seen it finds the room that it leaves.
  if (!request->started()) parts_.on_dequeued();
  request->Finish(status, reason, parts_.observer);
  requests_.erase(request->id());
}

void EngineThread::EndAll(const absl::Status& status, FinishReason reason) {
  while (!requests_.empty()) End(requests_.begin()->second.get(), status, reason);
  num_running_.store(0, std::memory_order_relaxed);
  num_kv_pages_used_.store(0, std::memory_order_relaxed);
}

}  // namespace moelight
