// Scheduler: which sequences run in the next step, and with how many of their tokens (continuous
// batching with mixed steps).
//
// A step carries one token of every sequence whose prompt is complete, and as many prompt tokens as
// its limit leaves room for; longer prompts go on in the next step. KV pages are taken as sequences
// grow. So many sequences run as pages allow now, not as they would if all were at their longest at
// once. When pages run out, the youngest are put back: their pages are given up, their tokens kept,
// and both are computed again when there is room. What that may cost is bounded: see Admission.
//
// Sequences of a job whose prompts begin alike share the pages of it (PrefixIndex). While one
// computes them the others wait, and their client's turn passes.
//
// Threads: engine thread. Borrows the sequences and the KvCache. Allocates per admission, not per
// token. Errors: CheckFits() says whether a sequence can ever run; the rest are CHECKs.
#ifndef MOELIGHT_ENGINE_SCHEDULER_SCHEDULER_H_
#define MOELIGHT_ENGINE_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/types/span.h>

#include "engine/memory/kv_cache.h"
#include "engine/memory/prefix_index.h"
#include "engine/scheduler/batch.h"
#include "engine/scheduler/job_table.h"
#include "engine/scheduler/page_forecast.h"
#include "engine/scheduler/sequence.h"
#include "engine/scheduler/start_pace.h"
#include "engine/scheduler/waiting_queue.h"

namespace moelight {

struct SchedulerOptions {
  int32_t max_running_sequences = 256;
  int32_t max_step_tokens = 2048;   // of one step; at least max_running_sequences
  int32_t max_chunk_tokens = 2048;  // of one prompt in one step
  // KV pages that the prompts of one step attend to, in sum; one prompt may always go on.
  int64_t max_prompt_pages = int64_t{1} << 40;
  bool mix_prompts = true;     // prompts beside decode tokens; if not, in steps of their own
  bool reserve_pages = false;  // for the longest length, at admission
  // Answers of one length start at the pace of StartPace. With mixed prompts and pages that are not
  // reserved; who runs ahead of it and is put back is computed again, once.
  bool pace_starts = false;
  bool share_prefixes = true;
  // Of all tokens computed, how many may be computed again because pages ran out.
  double max_recompute_share = 0.05;
  int32_t expected_output_tokens = 128;  // before a job's answers tell
};

// What happened since the start.
struct SchedulerCounters {
  int64_t num_preempted = 0;
  // That preempted sequences had in the cache, but for those that ran ahead of their pace.
  int64_t num_lost_tokens = 0;
  int64_t num_computed_tokens = 0;    // prompt and decode tokens
  int64_t num_recomputed_tokens = 0;  // of those, computed before
  int64_t num_shared_tokens = 0;      // of prompts, found in the cache
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, KvCache& kv_cache);

  // ResourceExhausted if `sequence` needs more KV pages than exist, naming both numbers.
  absl::Status CheckFits(const Sequence& sequence) const;
  // Puts it among those that wait, see WaitingQueue. REQUIRES: CheckFits is OK.
  void Add(Sequence* sequence);
  // Removes a sequence, waiting or running, and frees its pages. Between steps only. `ended`: its
  // answer is complete, and so tells how long answers of its job are.
  void Remove(Sequence* sequence, bool ended);

  // Admits what fits and fills `batch` with the next step; empty if nothing is there.
  void NextBatch(Batch* batch);
  // Tells that the step of `batch` is done: its tokens are in the cache.
  void StepDone(const Batch& batch);

  int64_t num_waiting() const { return waiting_.size(); }
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  // Those of the last NextBatch() that run for the first time.
  absl::Span<Sequence* const> admitted() const { return admitted_; }
  const SchedulerCounters& counters() const { return counters_; }

 private:
  // How much of the pages a sequence may count on when it is admitted. With every step downward
  // less has to be computed again, and fewer sequences run.
  enum class Admission : uint8_t {
    kNow,       // what it needs at once, and all need in the next few steps
    kExpected,  // what all are expected to need at any time to come
    kReserved,  // what all need if they get as long as they may
  };

  enum class Outcome : uint8_t { kNext, kStepIsFull, kNoRoom };

  Admission CurrentAdmission() const;
  // The parts of NextBatch(), in order. Each gives sequences tokens of the step.
  void Decode();
  void AdmitInteractive();
  void ContinuePrompts();
  // While many run ahead of their pace, puts them back for new ones at theirs.
  void AdmitAtPace();
  void AdmitWaiting();
  // If nobody has been given anything: a batch is never empty while there are sequences.
  void FillEmptyStep();
  bool IsPromptStep() const;

  // Tokens of a prompt that the step still has room for; 0: none.
  int32_t NextChunk(const Sequence& sequence, int32_t num_cached_tokens) const;
  void Give(Sequence* sequence, int32_t num_tokens);
  // Adds up what those that run will need.
  void PrepareAdmission();
  // kNext: the front sequence is admitted or its client passed over. Otherwise it has to wait, for
  // tokens of the next step or for a place or pages.
  Outcome AdmitFront(Sequence* sequence);
  // Whether there are enough for what it needs beside the shared ones that it has. Of those,
  // `num_taken_pages` were free.
  bool HasPagesFor(const Sequence& sequence, int64_t num_taken_pages);
  void Enter(Sequence* sequence);
  // Grows the table for `num_tokens`, putting younger sequences back as needed; false if it is the
  // youngest itself.
  bool GrowOrPreempt(Sequence* sequence, int32_t num_tokens);
  // Who is put back first: of the lowest priority, the youngest that runs ahead of its pace, or
  // else the youngest.
  Sequence* Youngest() const;
  bool IsPaced(const Sequence& sequence) const;
  // Whether there are pages for its first chunk once all that run ahead have been put back.
  bool CanTakePagesFor(const Sequence& sequence) const;
  void Preempt(Sequence* sequence);
  void ReleasePages(Sequence* sequence);

  // The tokens of a prompt that may be shared: one is always left to compute.
  absl::Span<const int32_t> SharedPart(const Sequence& sequence) const;
  void IndexPages(Sequence* sequence);
  void AnnounceNextPage(Sequence* sequence);

  const SchedulerOptions options_;
  KvCache& kv_cache_;
  PrefixIndex prefixes_;
  JobTable jobs_;
  WaitingQueue waiting_;
  std::vector<Sequence*> running_;  // by rank: the oldest first
  int64_t num_ahead_ = 0;           // of those, that run ahead of their pace
  int64_t next_rank_ = 1;
  SchedulerCounters counters_;
  // Without mixed steps: sequences that ran after the last step of prompts, and whether that was
  // full, so that another follows.
  int64_t num_after_prompts_ = 0;
  bool fills_prompt_steps_ = false;

  StartPace pace_;

  // Of the step in the making:
  int32_t num_step_tokens_ = 0;
  int64_t num_prompt_pages_ = 0;
  Admission admission_ = Admission::kNow;
  bool takes_pages_ahead_ = false;  // what is admitted now gets those of sequences that run ahead
  int64_t num_reserved_pages_ = 0;  // with kReserved: what running ones may still take
  PageForecast forecast_;
  std::vector<Sequence*> admitted_;
  std::vector<Sequence*> order_;  // scratch
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_SCHEDULER_H_
