#include "engine/scheduler/start_pace.h"

#include <algorithm>

namespace moelight {
namespace {

// Share of the answers that must reach their limit for their ends to come together.
constexpr double kMinShareAtLimit = 0.5;
// How many times as many must run if all are of different ages as if all are at their end. In
// virtual time on Mixtral-8x7B 1.4 bring a tenth, and 1.1 less than what is computed again costs.
constexpr double kMinGain = 1.15;

bool EndsAtLimit(const Sequence& sequence) {
  const int32_t max_output_tokens = sequence.max_tokens_total - sequence.num_prompt_tokens;
  return sequence.ends_at_max ||
         sequence.job->lengths.Survival(0, max_output_tokens) >= kMinShareAtLimit;
}

double StepsLeft(const Sequence& sequence) {
  return sequence.max_tokens_total - sequence.num_tokens();
}

}  // namespace

double StartPace::MeanPages(const Sequence& sequence, int32_t num_tokens) const {
  return 0.5 * (num_tokens + sequence.max_tokens_total) / kv_cache_.page_tokens() + 0.5 -
         sequence.num_shared_pages;
}

void StartPace::BeginStep(absl::Span<Sequence* const> running) {
  const double num_pages = static_cast<double>(kv_cache_.num_pages());
  const double num_places = max_running_sequences_;
  if (running.empty()) num_page_steps_ = num_place_steps_ = 0;
  num_page_steps_ = std::min(num_page_steps_ + num_pages, num_pages);
  num_place_steps_ = std::min(num_place_steps_ + num_places, num_places);
  double at_end = 0;
  double in_the_mean = 0;
  int64_t num_sequences = 0;
  for (const Sequence* sequence : running) {
    if (!EndsAtLimit(*sequence)) continue;
    at_end += static_cast<double>(kv_cache_.PagesFor(sequence->max_tokens_total) -
                                  sequence->num_shared_pages);
    in_the_mean += MeanPages(*sequence, sequence->num_prompt_tokens);
    ++num_sequences;
  }
  if (running.empty()) return;
  const double at_places = static_cast<double>(num_sequences) * num_pages / num_places;
  pays_ = num_sequences > 0 && at_end >= kMinGain * std::max(in_the_mean, at_places);
}

bool StartPace::AppliesTo(const Sequence& sequence) const { return pays_ && EndsAtLimit(sequence); }

void StartPace::Started(const Sequence& sequence) {
  num_page_steps_ -= StepsLeft(sequence) * MeanPages(sequence, sequence.num_tokens());
  num_place_steps_ -= StepsLeft(sequence);
}

void StartPace::Stopped(const Sequence& sequence) {
  num_page_steps_ += StepsLeft(sequence) * MeanPages(sequence, sequence.num_tokens());
  num_place_steps_ += StepsLeft(sequence);
}

}  // namespace moelight
