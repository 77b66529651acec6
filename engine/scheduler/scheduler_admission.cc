// Scheduler: who of those that wait may run, and what they start with.
#include <algorithm>

#include "engine/scheduler/scheduler.h"

namespace moelight {
namespace {

// Steps that kNow looks ahead: with fewer, sequences are put back that have just been admitted;
// with more, pages stand empty that younger ones would use (simulated: 0 to 8 cost no sequences, 32
// two in a hundred; at 8 none is put back more than three times).
constexpr int32_t kNowSteps = 8;
// kExpected looks this far at most: beyond, estimates of length mean nothing.
constexpr int32_t kExpectedSteps = 1024;
// Share of the running sequences from which on those that run ahead are many.
constexpr double kManyAhead = 0.25;

}  // namespace

Scheduler::Admission Scheduler::CurrentAdmission() const {
  if (options_.reserve_pages) return Admission::kReserved;
  // What was lost so far, in terms of what may be: a cache full of tokens in advance.
  const double allowed = options_.max_recompute_share *
                         static_cast<double>(counters_.num_computed_tokens +
                                             kv_cache_.num_pages() * kv_cache_.page_tokens());
  const double lost = static_cast<double>(counters_.num_lost_tokens);
  if (lost <= allowed) return Admission::kNow;
  return lost <= 2 * allowed ? Admission::kExpected : Admission::kReserved;
}

void Scheduler::AdmitInteractive() {
  while (true) {
    Sequence* const sequence = waiting_.Front();
    if (sequence == nullptr || sequence->group.priority < kInteractivePriority) return;
    PrepareAdmission();
    const Outcome outcome = AdmitFront(sequence);
    if (outcome == Outcome::kNext) continue;
    // The next step has room again; nobody needs to leave for it.
    if (outcome == Outcome::kStepIsFull) return;
    Sequence* const youngest = running_.empty() ? nullptr : Youngest();
    if (youngest == nullptr || youngest->group.priority >= sequence->group.priority) return;
    Preempt(youngest);
  }
}

bool Scheduler::IsPaced(const Sequence& sequence) const {
  return options_.pace_starts && admission_ == Admission::kNow &&
         sequence.group.priority < kInteractivePriority && pace_.AppliesTo(sequence);
}

void Scheduler::AdmitAtPace() {
  // When few are left that run ahead, they may end as they are.
  if (static_cast<double>(num_ahead_) <= kManyAhead * static_cast<double>(num_running())) return;
  admission_ = CurrentAdmission();
  // Those put back now would end together with the rest that runs ahead.
  waiting_.PreferNew(true);
  takes_pages_ahead_ = true;
  while (num_ahead_ > 0 && pace_.has_room()) {
    Sequence* const sequence = waiting_.Front();
    if (sequence == nullptr || sequence->rank != 0 || !IsPaced(*sequence)) break;
    Sequence* const youngest = Youngest();
    if (!youngest->is_ahead || youngest->group.priority > sequence->group.priority) break;
    const Outcome outcome = AdmitFront(sequence);
    if (outcome == Outcome::kNext) continue;
    if (outcome == Outcome::kStepIsFull || !CanTakePagesFor(*sequence)) break;
    Preempt(youngest);
  }
  takes_pages_ahead_ = false;
  waiting_.PreferNew(false);
}

bool Scheduler::CanTakePagesFor(const Sequence& sequence) const {
  const int32_t chunk = NextChunk(sequence, 0);
  int64_t num_pages = kv_cache_.num_free_pages();
  for (const Sequence* ahead : running_) {
    if (!ahead->is_ahead || ahead->group.priority > sequence.group.priority) continue;
    num_pages += static_cast<int64_t>(ahead->block_table.size()) - ahead->num_shared_pages;
  }
  return chunk > 0 && kv_cache_.PagesFor(chunk) <= num_pages;
}

void Scheduler::AdmitWaiting() {
  if (waiting_.empty()) return;
  PrepareAdmission();
  while (Sequence* sequence = waiting_.Front()) {
    // What waits in front is not overtaken, or large requests would starve.
    if (AdmitFront(sequence) != Outcome::kNext) break;
  }
}

void Scheduler::PrepareAdmission() {
  admission_ = CurrentAdmission();
  if (admission_ == Admission::kReserved) {
    num_reserved_pages_ = 0;
    for (const Sequence* sequence : running_) {
      num_reserved_pages_ += kv_cache_.PagesFor(sequence->max_tokens_total) -
                             static_cast<int64_t>(sequence->block_table.size());
    }
    return;
  }
  forecast_.Begin(admission_ == Admission::kNow ? kNowSteps : kExpectedSteps);
  for (const Sequence* sequence : running_) forecast_.Add(*sequence, sequence->job->lengths);
}

Scheduler::Outcome Scheduler::AdmitFront(Sequence* sequence) {
  if (num_running() >= options_.max_running_sequences) return Outcome::kNoRoom;
  PrefixIndex::Match match;
  if (sequence->job->root != PrefixIndex::kNone) {
    match = prefixes_.Find(sequence->job->root, SharedPart(*sequence));
    if (match.next_is_computed) {
      waiting_.PassOver(*sequence);
      return Outcome::kNext;
    }
  }
  const int32_t num_known_tokens = match.num_pages * kv_cache_.page_tokens();
  const int32_t chunk = NextChunk(*sequence, num_known_tokens);
  if (chunk == 0) return Outcome::kStepIsFull;
  const int64_t num_free_pages = kv_cache_.num_free_pages();
  prefixes_.Share(match, &sequence->block_table);
  sequence->num_shared_pages = match.num_pages;
  const int64_t num_taken_pages = num_free_pages - kv_cache_.num_free_pages();
  if (!HasPagesFor(*sequence, num_taken_pages) ||
      !kv_cache_.Grow(num_known_tokens + chunk, &sequence->block_table)) {
    kv_cache_.Release(&sequence->block_table);
    sequence->num_shared_pages = 0;
    return Outcome::kNoRoom;
  }
  num_prompt_pages_ += kv_cache_.PagesFor(num_known_tokens + chunk);
  sequence->num_cached_tokens = num_known_tokens;
  sequence->prefix = match.node;
  sequence->num_indexed_pages = match.num_pages;
  num_reserved_pages_ += kv_cache_.PagesFor(sequence->max_tokens_total) -
                         static_cast<int64_t>(sequence->block_table.size());
  Give(sequence, chunk);
  Enter(sequence);
  return Outcome::kNext;
}

bool Scheduler::HasPagesFor(const Sequence& sequence, int64_t num_taken_pages) {
  if (takes_pages_ahead_) return true;
  if (admission_ != Admission::kReserved) {
    return forecast_.TryAdd(sequence, sequence.job->lengths,
                            kv_cache_.num_pages() - num_taken_pages);
  }
  const int64_t num_needed = kv_cache_.PagesFor(sequence.max_tokens_total) -
                             static_cast<int64_t>(sequence.block_table.size());
  return num_needed <= kv_cache_.num_free_pages() - num_reserved_pages_;
}

void Scheduler::Enter(Sequence* sequence) {
  if (IsPaced(*sequence)) {
    sequence->is_ahead = sequence->rank == 0 && !pace_.has_room();
    sequence->is_at_pace = !sequence->is_ahead;
    if (sequence->is_ahead) ++num_ahead_;
    if (sequence->is_at_pace) pace_.Started(*sequence);
  }
  const int32_t max_output_tokens = sequence->max_tokens_total - sequence->num_prompt_tokens;
  waiting_.PopFront(sequence->num_prompt_tokens - sequence->num_cached_tokens +
                    (sequence->ends_at_max
                         ? max_output_tokens
                         : sequence->job->lengths.ExpectedTokens(max_output_tokens)));
  const bool is_new = sequence->rank == 0;
  if (is_new) {
    sequence->rank = next_rank_++;
    sequence->num_shared_tokens = sequence->num_cached_tokens;
    counters_.num_shared_tokens += sequence->num_shared_tokens;
    admitted_.push_back(sequence);
  }
  const auto place =
      std::upper_bound(running_.begin(), running_.end(), sequence,
                       [](const Sequence* a, const Sequence* b) { return a->rank < b->rank; });
  running_.insert(place, sequence);
  if (sequence->job->root != PrefixIndex::kNone) AnnounceNextPage(sequence);
}

}  // namespace moelight
