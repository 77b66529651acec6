// BenchLoad: the requests of one run, submitted as fast as the engine's queue takes them.
//
// Threads: Run() on the caller's thread, once; it blocks. The engine calls back on its own. Must
// outlive the engine, which may call back until it is destroyed.
// Errors: a refused Submit ends the run; requests that fail are counted.
#ifndef MOELIGHT_SERVER_BENCH_LOAD_H_
#define MOELIGHT_SERVER_BENCH_LOAD_H_

#include <cstdint>
#include <functional>
#include <vector>

#include <absl/status/status.h>

#include "engine/base/mutex.h"
#include "engine/engine.h"
#include "server/bench_workload.h"

namespace moelight {

class BenchLoad final : public TokenSink {
 public:
  struct Counts {
    int64_t num_succeeded = 0;
    int64_t num_failed = 0;
    int64_t num_prompt_tokens = 0;  // of requests that succeeded, as the next
    int64_t num_generated_tokens = 0;
    absl::Status first_error;
  };

  // `on_wait` is called about every 5 seconds while Run() waits.
  BenchLoad(const BenchWorkload& workload, int64_t num_requests,
            std::function<void(const Counts&)> on_wait);

  // Returns when every request has ended, or soon after Stop().
  absl::Status Run(Engine& engine);
  // Thread-safe. Requests that are still open stay so: they end with the engine, uncounted.
  void Stop();

  Counts counts() const;               // thread-safe
  bool is_stopped() const;             // thread-safe
  int32_t max_request_tokens() const;  // prompt and answer of the longest request

  void OnDelta(TokenDelta) override {}
  void OnFinish(GenerateResult result) override;

 private:
  // Blocks until `predicate` holds or the run is stopped.
  template <typename Predicate>
  void WaitUntil(Predicate predicate);
  // Blocks until the engine may take another request.
  void WaitForRoom(Engine& engine);

  const BenchWorkload& workload_;
  const std::vector<int32_t> prompt_lengths_;  // by request, as DrawPromptLengths() gives them
  const std::function<void(const Counts&)> on_wait_;
  mutable Mutex mutex_;
  CondVar changed_;
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  bool has_room_ ABSL_GUARDED_BY(mutex_) = true;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BENCH_LOAD_H_
