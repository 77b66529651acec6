// The sampling chain written plainly in double precision, with full sorts: the oracle of the
// sampler's tests.
#ifndef MOELIGHT_TESTS_SAMPLING_SAMPLING_REFERENCE_H_
#define MOELIGHT_TESTS_SAMPLING_SAMPLING_REFERENCE_H_

#include <random>
#include <vector>

#include "engine/request.h"
#include "engine/sampling/sampling_defaults.h"

namespace moelight::testing {

// What the reference needs to know about a sequence.
struct ReferenceSequence {
  SamplingParams params;
  SamplingDefaults defaults;
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;
};

// Probability of each token to be the next; 1 for the greedy choice at temperature 0.
std::vector<double> ReferenceDistribution(const ReferenceSequence& sequence,
                                          const std::vector<float>& logits);

// Natural logarithm of softmax(logits).
std::vector<double> ReferenceLogprobs(const std::vector<float>& logits);

// Normal with the standard deviation `spread`.
std::vector<float> RandomLogits(std::mt19937_64& random, int vocab_size, float spread);

}  // namespace moelight::testing

#endif  // MOELIGHT_TESTS_SAMPLING_SAMPLING_REFERENCE_H_
