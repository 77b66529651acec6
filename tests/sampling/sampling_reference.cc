#include "tests/sampling/sampling_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

namespace moelight::testing {
namespace {

constexpr double kMinusInf = -std::numeric_limits<double>::infinity();

std::vector<double> Adjusted(const ReferenceSequence& sequence, const std::vector<float>& raw) {
  const SamplingParams& params = sequence.params;
  std::vector<double> logits(raw.begin(), raw.end());
  for (const auto& [token, bias] : params.logit_bias) logits[token] += bias;
  if (static_cast<int>(sequence.output.size()) < params.min_tokens.value_or(0)) {
    for (TokenId token : params.stop_token_ids) logits[token] = kMinusInf;
    for (TokenId token : sequence.defaults.eos_token_ids) logits[token] = kMinusInf;
  }
  std::set<TokenId> seen(sequence.prompt.begin(), sequence.prompt.end());
  seen.insert(sequence.output.begin(), sequence.output.end());
  const double repetition =
      params.repetition_penalty.value_or(sequence.defaults.repetition_penalty.value_or(1));
  for (TokenId token : seen) {
    logits[token] = logits[token] > 0 ? logits[token] / repetition : logits[token] * repetition;
  }
  std::map<TokenId, int> counts;
  for (TokenId token : sequence.output) ++counts[token];
  for (const auto& [token, count] : counts) {
    logits[token] -= params.frequency_penalty.value_or(0) * count;
    logits[token] -= params.presence_penalty.value_or(0);
  }
  return logits;
}

// Divides by the sum.
void Normalize(std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
}

}  // namespace

std::vector<double> ReferenceDistribution(const ReferenceSequence& sequence,
                                          const std::vector<float>& raw) {
  const SamplingParams& params = sequence.params;
  const SamplingDefaults& defaults = sequence.defaults;
  const std::vector<double> logits = Adjusted(sequence, raw);
  const int n = static_cast<int>(logits.size());
  std::vector<int> ranked(n);
  std::iota(ranked.begin(), ranked.end(), 0);
  std::stable_sort(ranked.begin(), ranked.end(),
                   [&](int a, int b) { return logits[a] > logits[b]; });

  std::vector<double> probs(n, 0);
  const double temperature = params.temperature.value_or(defaults.temperature.value_or(1));
  if (temperature == 0) {
    probs[ranked[0]] = 1;
    return probs;
  }
  const double max = logits[ranked[0]];
  for (int i = 0; i < n; ++i) probs[i] = std::exp((logits[i] - max) / temperature);
  const double min_p = params.min_p.value_or(defaults.min_p.value_or(0));
  for (double& p : probs) p = p < min_p ? 0 : p;
  const int top_k = params.top_k.value_or(defaults.top_k.value_or(0));
  for (int rank = 0; rank < n; ++rank) {
    if (top_k > 0 && rank >= top_k) probs[ranked[rank]] = 0;
  }
  Normalize(probs);
  const double top_p = params.top_p.value_or(defaults.top_p.value_or(1));
  double above = 0;
  for (int rank = 0; rank < n; ++rank) {
    const double p = probs[ranked[rank]];
    if (above >= top_p) probs[ranked[rank]] = 0;
    above += p;
  }
  Normalize(probs);
  return probs;
}

std::vector<double> ReferenceLogprobs(const std::vector<float>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - max);
  std::vector<double> logprobs(logits.begin(), logits.end());
  for (double& logprob : logprobs) logprob -= max + std::log(sum);
  return logprobs;
}

std::vector<float> RandomLogits(std::mt19937_64& random, int vocab_size, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(vocab_size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

}  // namespace moelight::testing
