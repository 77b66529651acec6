// EngineThread: the one thread that owns sequences, KV pages and plans, and runs step after step.
//
// Threads: Post() and Cancel() are thread-safe and never block; everything else happens on the
// thread. Owns requests from Post() to OnFinish; borrows the parts given at Start.
// Errors: a device error ends every open request with its status, and every later one.
#ifndef MOELIGHT_ENGINE_ENGINE_THREAD_H_
#define MOELIGHT_ENGINE_ENGINE_THREAD_H_

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>

#include "engine/active_request.h"
#include "engine/base/logger.h"
#include "engine/base/mutex.h"
#include "engine/base/parallel.h"
#include "engine/engine.h"
#include "engine/memory/kv_cache.h"
#include "engine/pipeline/step_runner.h"
#include "engine/pipeline/trace.h"
#include "engine/planner/step_predictor.h"
#include "engine/scheduler/scheduler.h"
#include "engine/step_watch.h"

namespace moelight {

// What the thread works with; all outlive it.
struct EngineThreadParts {
  StepRunner& step_runner;
  Scheduler& scheduler;
  KvCache& kv_cache;
  const StepPredictor* predictor;  // null: the hardware is not known
  int64_t weight_page_bytes;
  TraceRecorder& trace;
  const Tokenizer* tokenizer;  // may be null
  SamplingDefaults sampling_defaults;
  int32_t vocab_size;
  int32_t max_model_len;
  ParallelRunner& sampling_runner;
  Logger& logger;
  EngineObserver* observer;  // may be null
  // Called whenever a request leaves the queue, to run or to end.
  std::function<void()> on_dequeued;
};

class EngineThread {
 public:
  explicit EngineThread(EngineThreadParts parts);
  // Ends every request with CANCELLED and joins.
  ~EngineThread();

  // A request's way in: Announce(id) when it is submitted, then Post() with its tokens, or
  // Withdraw() if it has none to run. The caller bounds how many are on the way.
  void Announce(RequestId id);
  void Post(PreparedRequest request);
  void Withdraw(RequestId id);
  // Ends the request within one step, wherever on its way it is. Unknown ids are ignored.
  void Cancel(RequestId id);

  int64_t num_running() const { return num_running_.load(std::memory_order_relaxed); }
  int64_t num_kv_pages_used() const { return num_kv_pages_used_.load(std::memory_order_relaxed); }
  // EngineStats::expert_shares; thread-safe.
  std::vector<double> ExpertShares() const;

 private:
  void Loop();
  // Waits for work unless sequences are running; false when it is time to stop.
  bool TakeMessages();
  void Accept(PreparedRequest prepared);
  void CancelNow(RequestId id);
  void NoteStarted();
  // One step of everything that is running.
  absl::Status Step();
  void StoreLevels();
  // Chooses the next token of every output of the batch, on all threads of the runner.
  void SampleBatch();
  // Takes them, one sequence after another.
  void AdvanceBatch();
  // All but wall_us.
  StepStats StatsOf(const StepResult& result) const;
  void Report(const StepStats& stats);
  // Removes the request's sequences from the scheduler and answers it.
  void End(ActiveRequest* request, const absl::Status& status, FinishReason reason);
  void EndAll(const absl::Status& status, FinishReason reason);

  const EngineThreadParts parts_;
  Mutex mutex_;
  CondVar wake_;
  // Announced and not yet posted; true: cancelled meanwhile.
  std::unordered_map<RequestId, bool> announced_ ABSL_GUARDED_BY(mutex_);
  std::deque<PreparedRequest> inbox_ ABSL_GUARDED_BY(mutex_);
  std::vector<RequestId> cancels_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Touched by the engine thread only.
  absl::Status broken_;  // the device error that ended it
  std::unordered_map<RequestId, std::unique_ptr<ActiveRequest>> requests_;
  std::unordered_map<const Sequence*, ActiveRequest::ActiveChoice*> choice_of_;
  Batch batch_;
  std::vector<ActiveRequest::ActiveChoice*> sampled_choices_;             // of its outputs
  std::vector<absl::StatusOr<SequenceSampler::Sampled>> sampled_tokens_;  // one each
  std::vector<SamplerScratch> sampler_scratch_;                           // of each worker
  SchedulerCounters reported_;                                            // as of the step before
  StepWatch step_watch_;
  std::deque<PreparedRequest> taken_;
  std::vector<RequestId> taken_cancels_;

  mutable Mutex shares_mutex_;
  std::vector<int64_t> expert_counts_ ABSL_GUARDED_BY(shares_mutex_);
  std::atomic<int64_t> num_running_ = 0;
  std::atomic<int64_t> num_kv_pages_used_ = 0;
  std::thread thread_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_ENGINE_THREAD_H_
