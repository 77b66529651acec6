// Passes over a row of logits, in blocks of 64: maxima, and sums of softmax weights.
//
// The block results let later steps skip most of a large vocabulary: a block whose maximum is too
// small holds no candidate, and a block whose weights end before the drawn point is stepped over.
// The loops use the compiler's vector types, so that they are fast with the baseline instruction
// set and give the same bits with any other.
//
// Pure functions; allocate only when an output vector first grows.
#ifndef MOELIGHT_ENGINE_SAMPLING_LOGIT_BLOCKS_H_
#define MOELIGHT_ENGINE_SAMPLING_LOGIT_BLOCKS_H_

#include <cstdint>
#include <vector>

#include <absl/types/span.h>

#include "engine/request.h"

namespace moelight {

inline constexpr int64_t kLogitBlock = 64;

// e^x for x <= 0 with a relative error below 3e-7; 0 below -87, where e^x is under 2e-38.
float ExpNonPositive(float x);

// Softmax weight of a logit, relative to the row's maximum: in [0, 1], and 1 for the maximum.
struct SoftmaxScale {
  float max;
  float inverse_temperature;

  float Weight(float logit) const { return ExpNonPositive((logit - max) * inverse_temperature); }
};

struct LogitScan {
  float max;
  bool has_nan;
};

// Sets block_max[b] to the maximum of block b, ignoring NaN.
LogitScan ScanBlocks(absl::Span<const float> logits, std::vector<float>& block_max);

// The lowest id among the largest logits. REQUIRES: a scan of these logits without NaN.
TokenId FirstMax(absl::Span<const float> logits, const std::vector<float>& block_max, float max);

// Sets block_sum[b] to the sum of block b's weights and returns the sum of all.
double SumWeights(absl::Span<const float> logits, SoftmaxScale scale,
                  std::vector<double>& block_sum);

// The first token at which the running sum of weights exceeds `point`, in order of ids; never one
// of weight 0. REQUIRES: SumWeights() of the same logits, 0 <= point < its result.
TokenId TokenAtMass(absl::Span<const float> logits, SoftmaxScale scale,
                    const std::vector<double>& block_sum, double point);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SAMPLING_LOGIT_BLOCKS_H_
