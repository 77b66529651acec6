#include "server/bench_load.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace moelight {
namespace {

constexpr std::chrono::seconds kProgressInterval{5};

}  // namespace

BenchLoad::BenchLoad(const BenchWorkload& workload, int64_t num_requests,
                     std::function<void(const Counts&)> on_wait)
    : workload_(workload),
      prompt_lengths_(DrawPromptLengths(workload, num_requests)),
      on_wait_(std::move(on_wait)) {}

absl::Status BenchLoad::Run(Engine& engine) {
  const int64_t num_requests = static_cast<int64_t>(prompt_lengths_.size());
  for (int64_t i = 0; i < num_requests && !is_stopped();) {
    const absl::StatusOr<RequestId> id = engine.Submit(
        MakeBenchRequest(workload_, i, prompt_lengths_[i], engine.model().vocab_size), this);
    if (id.ok()) {
      ++i;
    } else if (absl::IsResourceExhausted(id.status())) {
      WaitForRoom(engine);
    } else {
      return id.status();
    }
  }
  WaitUntil([&]() { return counts_.num_succeeded + counts_.num_failed == num_requests; });
  return absl::OkStatus();
}

void BenchLoad::Stop() {
  MutexLock lock(&mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

BenchLoad::Counts BenchLoad::counts() const {
  MutexLock lock(&mutex_);
  return counts_;
}

bool BenchLoad::is_stopped() const {
  MutexLock lock(&mutex_);
  return stopped_;
}

int32_t BenchLoad::max_request_tokens() const {
  return workload_.num_shared_prefix_tokens +
         *std::max_element(prompt_lengths_.begin(), prompt_lengths_.end()) +
         MaxOutputTokens(workload_);
}

void BenchLoad::OnFinish(GenerateResult result) {
  MutexLock lock(&mutex_);
  if (stopped_) return;
  if (result.status.ok()) {
    ++counts_.num_succeeded;
    counts_.num_prompt_tokens += result.num_prompt_tokens;
    for (const Choice& choice : result.choices) {
      counts_.num_generated_tokens += static_cast<int64_t>(choice.tokens.size());
    }
  } else if (counts_.num_failed++ == 0) {
    counts_.first_error = result.status;
  }
  changed_.NotifyAll();
}

template <typename Predicate>
void BenchLoad::WaitUntil(Predicate predicate) {
  const auto is_done = [&]() { return stopped_ || predicate(); };
  while (true) {
    Counts counts;
    {
      MutexLock lock(&mutex_);
      if (changed_.WaitFor(lock, kProgressInterval, is_done)) return;
      counts = counts_;
    }
    if (on_wait_) on_wait_(counts);
  }
}

void BenchLoad::WaitForRoom(Engine& engine) {
  {
    MutexLock lock(&mutex_);
    has_room_ = false;
  }
  engine.NotifyWhenRoom([this]() {
    MutexLock lock(&mutex_);
    has_room_ = true;
    changed_.NotifyAll();
  });
  WaitUntil([this]() { return has_room_; });
}

}  // namespace moelight
