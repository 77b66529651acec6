#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/sampling/philox.h"

namespace moelight {
namespace {

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

absl::StatusOr<float> ScanFinite(absl::Span<const float> logits, SamplerScratch& scratch) {
  const LogitScan scan = ScanBlocks(logits, scratch.block_max);
  if (scan.has_nan) return absl::InternalError("the model's logits contain NaN");
  if (!std::isfinite(scan.max)) {
    return absl::InternalError(absl::StrCat("the model's largest logit is ", scan.max));
  }
  return scan.max;
}

// What the raw distribution says: the most likely tokens, and how to turn a logit into a logprob.
struct RawDistribution {
  double log_sum_exp = 0;
  std::vector<std::pair<TokenId, float>> top;
};

RawDistribution DescribeRaw(absl::Span<const float> logits, float max, int32_t num_top,
                            SamplerScratch& scratch) {
  const SoftmaxScale scale = {max, 1.0f};
  RawDistribution raw;
  raw.log_sum_exp = max + std::log(SumWeights(logits, scale, scratch.block_sum));
  if (num_top == 0) return raw;
  std::vector<Candidate>& candidates = scratch.candidates;
  const float floor = TopKFloor(scratch.block_max, num_top, scratch.block_work);
  GatherCandidates(logits, scratch.block_max, floor, candidates);
  KeepTopK(num_top, candidates, scratch.work);
  std::sort(candidates.begin(), candidates.end(), RanksBefore);
  raw.top.reserve(candidates.size());
  for (const Candidate& c : candidates) {
    raw.top.emplace_back(c.token, static_cast<float>(c.logit - raw.log_sum_exp));
  }
  return raw;
}

// Extreme penalties may push a large logit past the range of float; the row is still in order.
float ClampFinite(float logit) {
  return std::clamp(logit, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
}

}  // namespace

SequenceSampler::SequenceSampler(const SamplingParams& params, const SamplingDefaults& defaults,
                                 uint64_t seed, int32_t choice_index, int32_t vocab_size,
                                 absl::Span<const TokenId> prompt)
    : sampling_(ResolveSampling(params, defaults)),
      num_logprobs_(params.logprobs),
      seed_(seed),
      choice_index_(choice_index),
      vocab_size_(vocab_size),
      counts_tokens_(sampling_.repetition_penalty != 1 || sampling_.presence_penalty != 0 ||
                     sampling_.frequency_penalty != 0),
      logit_bias_(params.logit_bias) {
  if (sampling_.min_tokens > 0) {
    // As in vLLM, ignore_eos does not exempt the end-of-sequence tokens: it makes them ordinary
    // text, and a caller who asks for min_tokens wants none of them before.
    end_tokens_ = params.stop_token_ids;
    end_tokens_.insert(end_tokens_.end(), defaults.eos_token_ids.begin(),
                       defaults.eos_token_ids.end());
  }
  if (!params.ignore_eos && !defaults.eos_token_ids.empty()) {
    chance_to_end_ = defaults.chance_to_end;
    chance_end_token_ = defaults.eos_token_ids.front();
  }
  if (sampling_.repetition_penalty == 1) return;
  for (TokenId token : prompt) {
    CHECK(token >= 0 && token < vocab_size) << "prompt token " << token;
    output_counts_.try_emplace(token, 0);
  }
}

absl::StatusOr<SequenceSampler::Sampled> SequenceSampler::Sample(absl::Span<float> logits,
                                                                 SamplerScratch& scratch) {
  CHECK_EQ(static_cast<int64_t>(logits.size()), vocab_size_);
  ASSIGN_OR_RETURN(float max, ScanFinite(logits, scratch));

  RawDistribution raw;
  absl::Span<const float> raw_logits = logits;
  if (num_logprobs_.has_value()) raw = DescribeRaw(logits, max, *num_logprobs_, scratch);
  if (WillAdjust()) {
    if (num_logprobs_.has_value()) {
      scratch.raw_logits.assign(logits.begin(), logits.end());
      raw_logits = scratch.raw_logits;
    }
    Adjust(logits);
    max = ScanBlocks(logits, scratch.block_max).max;
    if (max == kMinusInf) {
      return absl::InvalidArgumentError("min_tokens and stop_token_ids leave no token to choose");
    }
  }

  Sampled sampled;
  sampled.token = sampling_.temperature == 0 ? FirstMax(logits, scratch.block_max, max)
                                             : Draw(logits, max, scratch);
  if (EndsByChance()) sampled.token = chance_end_token_;
  if (num_logprobs_.has_value()) {
    const double logprob = raw_logits[sampled.token] - raw.log_sum_exp;
    sampled.logprob = TokenLogprob{
        .token = sampled.token, .logprob = static_cast<float>(logprob), .top = std::move(raw.top)};
  }
  Record(sampled.token);
  return sampled;
}

bool SequenceSampler::EndsByChance() const {
  if (chance_to_end_ == 0 || num_sampled_ < sampling_.min_tokens) return false;
  // Other numbers than those that tokens are drawn with.
  return UniformAt(~seed_, choice_index_, num_sampled_) < chance_to_end_;
}

bool SequenceSampler::WillAdjust() const {
  return !logit_bias_.empty() || !output_counts_.empty() ||
         (num_sampled_ < sampling_.min_tokens && !end_tokens_.empty());
}

void SequenceSampler::Adjust(absl::Span<float> logits) const {
  for (const auto& [token, bias] : logit_bias_) logits[token] += bias;
  if (num_sampled_ < sampling_.min_tokens) {
    for (TokenId token : end_tokens_) logits[token] = kMinusInf;
  }
  for (const auto& [token, count] : output_counts_) {
    float& logit = logits[token];
    if (logit == kMinusInf) continue;
    logit = logit > 0 ? logit / sampling_.repetition_penalty : logit * sampling_.repetition_penalty;
    if (count > 0) {
      logit -= sampling_.frequency_penalty * static_cast<float>(count);
      logit -= sampling_.presence_penalty;
    }
    logit = ClampFinite(logit);
  }
}

TokenId SequenceSampler::Draw(absl::Span<const float> logits, float max,
                              SamplerScratch& scratch) const {
  const SoftmaxScale scale = {max, 1.0f / sampling_.temperature};
  const double uniform = UniformAt(seed_, choice_index_, num_sampled_);
  const bool truncates = (sampling_.top_k > 0 && sampling_.top_k < vocab_size_) ||
                         sampling_.top_p < 1 || sampling_.min_p > 0;
  if (!truncates) {
    const double sum = SumWeights(logits, scale, scratch.block_sum);
    return TokenAtMass(logits, scale, scratch.block_sum, uniform * sum);
  }
  const double sum = Truncate(logits, scale, scratch);
  return CandidateAtMass(scratch.candidates, uniform * sum);
}

double SequenceSampler::Truncate(absl::Span<const float> logits, SoftmaxScale scale,
                                 SamplerScratch& scratch) const {
  std::vector<Candidate>& candidates = scratch.candidates;
  const double top_p = sampling_.top_p;
  const bool has_top_k = sampling_.top_k > 0 && sampling_.top_k < vocab_size_;
  float floor = kMinusInf;
  double sum_before_top_p = 0;
  if (has_top_k) floor = TopKFloor(scratch.block_max, sampling_.top_k, scratch.block_work);
  if (sampling_.min_p > 0) {
    const double log_min_p = std::log(static_cast<double>(sampling_.min_p));
    floor = std::max(floor, static_cast<float>(scale.max + sampling_.temperature * log_min_p));
  }
  const bool only_top_p = !has_top_k && sampling_.min_p == 0;
  if (only_top_p) {
    // A token is in the nucleus only if it and all that rank after it weigh more than (1 - top_p)
    // of the sum; they are at most vocab_size tokens of at most its weight. Half of that bound
    // covers rounding.
    sum_before_top_p = SumWeights(logits, scale, scratch.block_sum);
    const double min_weight = 0.5 * (1 - top_p) * sum_before_top_p / vocab_size_;
    floor = static_cast<float>(scale.max + sampling_.temperature * std::log(min_weight));
  }
  GatherCandidates(logits, scratch.block_max, floor, candidates);
  if (has_top_k) KeepTopK(sampling_.top_k, candidates, scratch.work);
  const double sum = WeighCandidates(scale, candidates);
  if (top_p >= 1) return sum;
  return KeepTopP(top_p * (only_top_p ? sum_before_top_p : sum), scale, candidates, scratch.work);
}

void SequenceSampler::Record(TokenId token) {
  ++num_sampled_;
  if (counts_tokens_) ++output_counts_[token];
}

}  // namespace moelight
