#include "engine/scheduler/scheduler.h"

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"

namespace moelight {

Scheduler::Scheduler(const SchedulerOptions& options, KvCache& kv_cache)
    : options_(options), kv_cache_(kv_cache) {
  CHECK_GT(options.max_running_sequences, 0);
  running_.reserve(options.max_running_sequences);
}

int64_t Scheduler::MaxStepRows(const SchedulerOptions& options, int32_t max_model_len) {
  return std::max<int64_t>(options.max_step_tokens,
                           int64_t{options.max_running_sequences} + max_model_len);
}

absl::Status Scheduler::CheckFits(const Sequence& sequence) const {
  const int64_t num_needed = kv_cache_.PagesFor(sequence.max_tokens_total);
  if (num_needed <= kv_cache_.num_pages()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "prompt and max_tokens make ", sequence.max_tokens_total, " tokens, which need ", num_needed,
      " KV pages; there are ", kv_cache_.num_pages(), " (raise engine.host_memory)"));
}

void Scheduler::Add(Sequence* sequence) {
  CHECK_GE(sequence->max_tokens_total, sequence->num_tokens());
  (sequence->priority ? waiting_priority_ : waiting_).push_back(sequence);
}

void Scheduler::Remove(Sequence* sequence) {
  auto erase_from = [sequence](auto& list) {
    auto it = std::find(list.begin(), list.end(), sequence);
    if (it == list.end()) return false;
    list.erase(it);
    return true;
  };
  CHECK(erase_from(running_) || erase_from(waiting_) || erase_from(waiting_priority_));
  kv_cache_.Release(&sequence->block_table);
  sequence->num_cached_tokens = 0;
}

bool Scheduler::AdmitFront(std::deque<Sequence*>* queue, int32_t* num_step_tokens) {
  Sequence* sequence = queue->front();
  if (num_running() >= options_.max_running_sequences) return false;
  const int32_t num_tokens = sequence->num_tokens();
  const bool fits_step = *num_step_tokens + num_tokens <= options_.max_step_tokens;
  const bool is_long = num_tokens > options_.max_step_tokens - options_.max_running_sequences;
  // A prompt that would never fit beside a full batch runs in a step in which it is the only one
  // new.
  const bool first_new = *num_step_tokens == num_running();
  if (!fits_step && !(is_long && first_new)) return false;
  if (!kv_cache_.Grow(sequence->max_tokens_total, &sequence->block_table)) return false;
  queue->pop_front();
  running_.push_back(sequence);
  *num_step_tokens += num_tokens;
  return true;
}

void Scheduler::NextBatch(Batch* batch) {
  int32_t num_step_tokens = static_cast<int32_t>(num_running());
  for (std::deque<Sequence*>* queue : {&waiting_priority_, &waiting_}) {
    while (!queue->empty() && AdmitFront(queue, &num_step_tokens)) {
    }
    // First come, first served: what waits in front is not overtaken, or large requests would
    // starve.
    if (!queue->empty()) break;
  }
  batch->Clear();
  for (Sequence* sequence : running_) batch->Add(sequence);
}

void Scheduler::StepDone(const Batch& batch) {
  for (int32_t i = 0; i < batch.num_sequences(); ++i) {
    Sequence* sequence = batch.sequence(i);
    sequence->num_cached_tokens = sequence->num_tokens();
  }
}

}  // namespace moelight
