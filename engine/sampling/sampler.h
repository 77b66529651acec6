// SequenceSampler: chooses the next token of one sequence from its logits.
//
// The chain is vLLM's: logit_bias, masking of end tokens until min_tokens, penalties (repetition
// over prompt and output, presence and frequency over output), temperature, min_p, top_k, top_p,
// draw. Temperature 0 takes the largest logit after the penalties, the lowest id among equals.
// Logprobs are those of the logits as the model gave them. See README.md.
//
// Threads: one at a time per sampler, one at a time per scratch.
// Owns: counts of the tokens seen (only if a penalty needs them), the bias and the position; no
// array of vocabulary size.
// Allocates: Sample() only when the counts or the scratch grow, and for logprobs.
// Errors: Internal if a row's logits hold a NaN or +infinity or are all -infinity; InvalidArgument
// if min_tokens masks every token of a tiny vocabulary.
#ifndef MOELIGHT_ENGINE_SAMPLING_SAMPLER_H_
#define MOELIGHT_ENGINE_SAMPLING_SAMPLER_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include "engine/request.h"
#include "engine/sampling/candidates.h"
#include "engine/sampling/sampling_defaults.h"

namespace moelight {

// Buffers that a thread reuses from one sequence to the next. Their contents mean nothing between
// calls.
struct SamplerScratch {
  std::vector<float> block_max;
  std::vector<double> block_sum;
  std::vector<float> block_work;
  std::vector<float> raw_logits;  // filled only for logprobs of adjusted logits
  std::vector<Candidate> candidates;
  std::vector<Candidate> work;
};

class SequenceSampler {
 public:
  struct Sampled {
    TokenId token;
    std::optional<TokenLogprob> logprob;  // set if SamplingParams::logprobs is
  };

  // `seed` is the request's, or drawn once per request by the caller: choices of one request differ
  // by `choice_index`. REQUIRES: valid params and defaults, prompt tokens in [0, vocab_size).
  SequenceSampler(const SamplingParams& params, const SamplingDefaults& defaults, uint64_t seed,
                  int32_t choice_index, int32_t vocab_size, absl::Span<const TokenId> prompt);

  // Chooses a token and records it as the sequence's next. `logits` has vocab_size entries and is
  // modified. On error nothing is recorded.
  absl::StatusOr<Sampled> Sample(absl::Span<float> logits, SamplerScratch& scratch);

 private:
  bool WillAdjust() const;
  void Adjust(absl::Span<float> logits) const;
  bool EndsByChance() const;
  TokenId Draw(absl::Span<const float> logits, float max, SamplerScratch& scratch) const;
  // Leaves what the truncation keeps in scratch.candidates and returns the sum of their weights.
  double Truncate(absl::Span<const float> logits, SoftmaxScale scale,
                  SamplerScratch& scratch) const;
  void Record(TokenId token);

  ResolvedSampling sampling_;
  std::optional<int32_t> num_logprobs_;
  uint64_t seed_;
  int32_t choice_index_;
  int32_t vocab_size_;
  bool counts_tokens_;
  int32_t num_sampled_ = 0;  // position of the next token in the output
  std::vector<std::pair<TokenId, float>> logit_bias_;
  std::vector<TokenId> end_tokens_;  // masked until min_tokens
  double chance_to_end_ = 0;         // SamplingDefaults::chance_to_end, with this token
  TokenId chance_end_token_ = 0;
  // Tokens seen, with their number in the output; 0 for those only in the prompt.
  absl::flat_hash_map<TokenId, int32_t> output_counts_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SAMPLING_SAMPLER_H_
