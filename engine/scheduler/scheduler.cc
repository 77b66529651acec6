#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

// Without mixed steps, prompts are computed once this share of the sequences has ended: each such
// step costs a whole pass in which no answer grows.
constexpr double kPromptStepShare = 0.125;
// Of a prompt, when others are in the step: each piece has the pages before it read again.
constexpr int32_t kMinPieceTokens = 64;

// Those for which it is less are put back first.
std::pair<int32_t, bool> KeptFor(const Sequence& sequence) {
  return {sequence.group.priority, !sequence.is_ahead};
}
}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, KvCache& kv_cache)
    : options_(options),
      kv_cache_(kv_cache),
      prefixes_(kv_cache),
      jobs_(prefixes_, options.share_prefixes, options.expected_output_tokens),
      pace_(kv_cache, options.max_running_sequences),
      forecast_(kv_cache) {
  CHECK_GT(options.max_running_sequences, 0);
  CHECK_GE(options.max_step_tokens, options.max_running_sequences);
  CHECK_GT(options.max_chunk_tokens, 0);
  running_.reserve(options.max_running_sequences);
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
  CHECK_GT(sequence->group.client_weight, 0);
  sequence->job = jobs_.Enter(sequence->group.job);
  waiting_.Add(sequence);
}

void Scheduler::Remove(Sequence* sequence, bool ended) {
  const auto place = std::find(running_.begin(), running_.end(), sequence);
  if (place != running_.end()) {
    running_.erase(place);
    ReleasePages(sequence);
  } else {
    waiting_.Remove(sequence);
  }
  const bool by_itself = ended && sequence->num_tokens() < sequence->max_tokens_total;
  if (by_itself) sequence->job->lengths.Ended(sequence->num_generated_tokens());
  waiting_.Settle(*sequence, sequence->num_computed_tokens - sequence->num_shared_tokens);
  jobs_.Leave(sequence->group.job);
  sequence->job = nullptr;
}

void Scheduler::ReleasePages(Sequence* sequence) {
  prefixes_.EndPending(sequence->pending);
  sequence->pending = PrefixIndex::kNone;
  kv_cache_.Release(&sequence->block_table);
  if (std::exchange(sequence->is_ahead, false)) --num_ahead_;
  if (std::exchange(sequence->is_at_pace, false)) pace_.Stopped(*sequence);
  sequence->num_cached_tokens = 0;
  sequence->num_step_tokens = 0;
  sequence->num_shared_pages = 0;
}

void Scheduler::NextBatch(Batch* batch) {
  num_step_tokens_ = 0;
  num_prompt_pages_ = 0;
  admitted_.clear();
  waiting_.EndRound();
  if (options_.pace_starts) pace_.BeginStep(running_);
  for (Sequence* sequence : running_) sequence->num_step_tokens = 0;
  const bool prompts_only = !options_.mix_prompts && IsPromptStep();
  if (!prompts_only) Decode();
  if (options_.mix_prompts || prompts_only) {
    AdmitInteractive();
    ContinuePrompts();
    if (options_.pace_starts) AdmitAtPace();
    AdmitWaiting();
    if (prompts_only) {
      num_after_prompts_ = num_running();
      fills_prompt_steps_ = num_step_tokens_ > options_.max_step_tokens - kMinPieceTokens;
    }
    if (num_step_tokens_ == 0) FillEmptyStep();
  }
  batch->Clear();
  for (Sequence* sequence : running_) {
    if (sequence->num_step_tokens > 0) batch->Add(sequence);
  }
}

void Scheduler::FillEmptyStep() {
  Decode();
  // Who had the whole step may have been put back for one that then found no pages.
  if (num_step_tokens_ == 0 && options_.mix_prompts) {
    num_prompt_pages_ = 0;
    ContinuePrompts();
  }
}

bool Scheduler::IsPromptStep() const {
  const bool has_open_prompts =
      std::any_of(running_.begin(), running_.end(),
                  [](const Sequence* sequence) { return !sequence->is_decoding(); });
  const Sequence* const front = waiting_.Front();
  const bool is_urgent = front != nullptr && front->group.priority >= kInteractivePriority;
  if (has_open_prompts || is_urgent || (fills_prompt_steps_ && front != nullptr)) return true;
  return !waiting_.empty() && static_cast<double>(num_running()) <=
                                  (1 - kPromptStepShare) * static_cast<double>(num_after_prompts_);
}

void Scheduler::Give(Sequence* sequence, int32_t num_tokens) {
  sequence->num_step_tokens = num_tokens;
  num_step_tokens_ += num_tokens;
}

void Scheduler::Decode() {
  order_ = running_;
  for (Sequence* sequence : order_) {
    // Those without pages were put back for an older one.
    if (sequence->block_table.empty() || !sequence->is_decoding()) continue;
    if (GrowOrPreempt(sequence, sequence->num_tokens())) {
      Give(sequence, 1);
    } else {
      Preempt(sequence);
    }
  }
}

bool Scheduler::GrowOrPreempt(Sequence* sequence, int32_t num_tokens) {
  while (!kv_cache_.Grow(num_tokens, &sequence->block_table)) {
    Sequence* const youngest = Youngest();
    if (youngest == sequence) return false;
    Preempt(youngest);
  }
  return true;
}

Sequence* Scheduler::Youngest() const {
  Sequence* youngest = nullptr;
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    if (youngest == nullptr || KeptFor(**it) < KeptFor(*youngest)) youngest = *it;
  }
  return youngest;
}

void Scheduler::Preempt(Sequence* sequence) {
  ++counters_.num_preempted;
  // Shared pages stay for whoever needs them next. One that runs ahead does so once, and that does
  // not count.
  if (!sequence->is_ahead) {
    counters_.num_lost_tokens +=
        sequence->num_cached_tokens - sequence->num_shared_pages * kv_cache_.page_tokens();
  }
  num_step_tokens_ -= sequence->num_step_tokens;
  running_.erase(std::find(running_.begin(), running_.end(), sequence));
  ReleasePages(sequence);
  waiting_.PutBack(sequence);
}

int32_t Scheduler::NextChunk(const Sequence& sequence, int32_t num_cached_tokens) const {
  const int32_t chunk =
      std::min({sequence.num_tokens() - num_cached_tokens, options_.max_chunk_tokens,
                options_.max_step_tokens - num_step_tokens_});
  // The first prompt of a step always goes on; others with a piece that is worth it.
  if (num_prompt_pages_ == 0) return chunk;
  const int64_t num_pages = kv_cache_.PagesFor(num_cached_tokens + chunk);
  const bool is_piece = num_cached_tokens + chunk < sequence.num_tokens();
  const bool is_too_small =
      is_piece && chunk < std::min(kMinPieceTokens, options_.max_chunk_tokens);
  return is_too_small || num_prompt_pages_ + num_pages > options_.max_prompt_pages ? 0 : chunk;
}

void Scheduler::ContinuePrompts() {
  order_ = running_;
  for (Sequence* sequence : order_) {
    const bool is_open = !sequence->block_table.empty() && !sequence->is_decoding() &&
                         sequence->num_step_tokens == 0;
    if (!is_open) continue;
    const int32_t chunk = NextChunk(*sequence, sequence->num_cached_tokens);
    if (chunk == 0) return;
    const int32_t num_tokens = sequence->num_cached_tokens + chunk;
    // The youngest waits for others to end; it is not worth more than what it would take.
    // One of higher priority behind it may still take its pages.
    if (!GrowOrPreempt(sequence, num_tokens)) continue;
    num_prompt_pages_ += kv_cache_.PagesFor(num_tokens);
    Give(sequence, chunk);
  }
}

absl::Span<const int32_t> Scheduler::SharedPart(const Sequence& sequence) const {
  return absl::MakeConstSpan(sequence.tokens)
      .first(std::min(sequence.num_prompt_tokens, sequence.num_tokens() - 1));
}

void Scheduler::AnnounceNextPage(Sequence* sequence) {
  const absl::Span<const int32_t> shared = SharedPart(*sequence);
  const size_t page_tokens = kv_cache_.page_tokens();
  const size_t begin = sequence->num_indexed_pages * page_tokens;
  if (begin + page_tokens > shared.size()) return;
  sequence->pending = prefixes_.BeginPending(sequence->prefix, shared.subspan(begin, page_tokens));
}

void Scheduler::IndexPages(Sequence* sequence) {
  prefixes_.EndPending(sequence->pending);
  sequence->pending = PrefixIndex::kNone;
  const int32_t page_tokens = kv_cache_.page_tokens();
  const absl::Span<const int32_t> shared = SharedPart(*sequence).first(
      std::min<size_t>(SharedPart(*sequence).size(), sequence->num_cached_tokens));
  while (sequence->prefix != PrefixIndex::kNone &&
         static_cast<size_t>((sequence->num_indexed_pages + 1) * page_tokens) <= shared.size()) {
    const int32_t page = sequence->num_indexed_pages++;
    sequence->prefix =
        prefixes_.Add(sequence->prefix, shared.subspan(page * page_tokens, page_tokens),
                      sequence->block_table[page]);
  }
  if (sequence->prefix != PrefixIndex::kNone) AnnounceNextPage(sequence);
}

void Scheduler::StepDone(const Batch& batch) {
  for (int32_t i = 0; i < batch.num_sequences(); ++i) {
    Sequence* const sequence = batch.sequence(i);
    const bool was_open = !sequence->is_decoding();
    const bool has_output = sequence->has_output();
    const int32_t num_cached = sequence->num_cached_tokens + sequence->num_step_tokens;
    counters_.num_computed_tokens += sequence->num_step_tokens;
    counters_.num_recomputed_tokens += std::max(
        0, std::min(num_cached, sequence->num_computed_tokens) - sequence->num_cached_tokens);
    sequence->num_computed_tokens = std::max(sequence->num_computed_tokens, num_cached);
    sequence->num_cached_tokens = num_cached;
    sequence->num_step_tokens = 0;
    if (was_open && sequence->job->root != PrefixIndex::kNone) IndexPages(sequence);
    if (has_output && !sequence->ends_at_max)
      sequence->job->lengths.WentOn(sequence->num_generated_tokens());
  }
}

}  // namespace moelight
