// Scheduler: which sequences run in the next step (continuous batching).
//
// Every step carries one token of each running sequence and the whole prompts of newly admitted
// ones, as far as places, step tokens and KV pages allow. A place that a finished sequence leaves
// is filled in the next step. A sequence is admitted only with the pages for its longest possible
// length, so that none ever has to be put back.
//
// Threads: engine thread. Borrows the sequences and the KvCache. Allocates per admission, not per
// token. Errors: CheckFits() says whether a sequence can ever run; the rest are CHECKs.
#ifndef MOELIGHT_ENGINE_SCHEDULER_SCHEDULER_H_
#define MOELIGHT_ENGINE_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <vector>

#include <absl/status/status.h>

#include "engine/memory/kv_cache.h"
#include "engine/scheduler/batch.h"
#include "engine/scheduler/sequence.h"

namespace moelight {

struct SchedulerOptions {
  int32_t max_running_sequences = 256;
  // Tokens of one step. A longer prompt still runs whole, but in a step that starts no other.
  int32_t max_step_tokens = 2048;
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, KvCache& kv_cache);

  // Most rows that a batch can have.
  static int64_t MaxStepRows(const SchedulerOptions& options, int32_t max_model_len);

  // ResourceExhausted if `sequence` needs more KV pages than exist, naming both numbers.
  absl::Status CheckFits(const Sequence& sequence) const;
  // Behind all waiting sequences, or behind those with priority. REQUIRES: CheckFits is OK.
  void Add(Sequence* sequence);
  // Removes a sequence, waiting or running, and frees its pages. Between steps only.
  void Remove(Sequence* sequence);

  // Admits what fits and fills `batch` with the next step; empty if nothing is running.
  void NextBatch(Batch* batch);
  // Tells that the step of `batch` is done: its tokens are in the cache.
  void StepDone(const Batch& batch);

  int64_t num_waiting() const { return waiting_priority_.size() + waiting_.size(); }
  int64_t num_running() const { return running_.size(); }

 private:
  // Admits the head of `queue` if it fits next to `num_step_tokens`; false if it has to wait.
  bool AdmitFront(std::deque<Sequence*>* queue, int32_t* num_step_tokens);

  const SchedulerOptions options_;
  KvCache& kv_cache_;
  std::deque<Sequence*> waiting_priority_;
  std::deque<Sequence*> waiting_;
  std::vector<Sequence*> running_;  // in order of admission
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_SCHEDULER_H_
