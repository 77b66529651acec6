#include "engine/sampling/logit_blocks.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>

#include "engine/base/check.h"

namespace moelight {
namespace {

// Four floats are one register in every baseline instruction set (SSE2, NEON). Explicit types,
// because compilers do not find these loops' vector form without -ffast-math, which would also drop
// the NaN checks.
using Float4 = float __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));

// Independent partial results per block, to cover the latency of one operation.
constexpr int64_t kAccumulators = 4;
constexpr int64_t kLanes = 4;
static_assert(kLogitBlock % (kAccumulators * kLanes) == 0);

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

Float4 Load(const float* p) {
  Float4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

Float4 Broadcast(float value) { return Float4{} + value; }

Float4 ExpNonPositive4(Float4 x) {
  constexpr float kLowest = -87.0f;
  constexpr float kLog2E = 1.44269504f;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the float.
  constexpr float kRoundingShift = 12582912.0f;
  // ln 2 in two parts; the first has trailing zeros, so that its product with n is exact.
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const Float4 clamped = x > kLowest ? x : Broadcast(kLowest);
  const Float4 shifted = clamped * kLog2E + kRoundingShift;
  const Int4 n = std::bit_cast<Int4>(shifted) - std::bit_cast<int32_t>(kRoundingShift);
  const Float4 n_float = shifted - kRoundingShift;
  const Float4 r = (clamped - n_float * kLn2High) - n_float * kLn2Low;  // |r| <= ln(2) / 2
  Float4 p = Broadcast(1.0f / 5040);  // Taylor series to r^7: the rest is below 6e-9
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Float4 power_of_two = std::bit_cast<Float4>((n + 127) << 23);
  return x < kLowest ? Broadcast(0) : p * power_of_two;
}

int64_t NumBlocks(absl::Span<const float> logits) {
  return (static_cast<int64_t>(logits.size()) + kLogitBlock - 1) / kLogitBlock;
}

float FullBlockMax(const float* block, Int4& nan_lanes) {
  Float4 max[kAccumulators];
  std::fill(max, max + kAccumulators, Broadcast(kMinusInf));
  for (int64_t i = 0; i < kLogitBlock; i += kAccumulators * kLanes) {
    for (int a = 0; a < kAccumulators; ++a) {
      const Float4 v = Load(block + i + a * kLanes);
      max[a] = v > max[a] ? v : max[a];
      nan_lanes |= v != v;
    }
  }
  for (int a = 1; a < kAccumulators; ++a) max[0] = max[a] > max[0] ? max[a] : max[0];
  return std::max({max[0][0], max[0][1], max[0][2], max[0][3]});
}

double FullBlockSum(const float* block, SoftmaxScale scale) {
  Float4 sum[kAccumulators] = {};
  for (int64_t i = 0; i < kLogitBlock; i += kAccumulators * kLanes) {
    for (int a = 0; a < kAccumulators; ++a) {
      const Float4 v = Load(block + i + a * kLanes);
      sum[a] += ExpNonPositive4((v - scale.max) * scale.inverse_temperature);
    }
  }
  const Float4 lanes = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  return (static_cast<double>(lanes[0]) + lanes[1]) + (static_cast<double>(lanes[2]) + lanes[3]);
}

}  // namespace

float ExpNonPositive(float x) { return ExpNonPositive4(Broadcast(x))[0]; }

LogitScan ScanBlocks(absl::Span<const float> logits, std::vector<float>& block_max) {
  block_max.resize(NumBlocks(logits));
  Int4 nan_lanes = {};
  LogitScan scan = {kMinusInf, false};
  const int64_t num_full = static_cast<int64_t>(logits.size()) / kLogitBlock;
  for (int64_t b = 0; b < num_full; ++b) {
    block_max[b] = FullBlockMax(logits.data() + b * kLogitBlock, nan_lanes);
    scan.max = std::max(scan.max, block_max[b]);
  }
  for (int lane = 0; lane < kLanes; ++lane) scan.has_nan |= nan_lanes[lane] != 0;
  if (num_full == static_cast<int64_t>(block_max.size())) return scan;
  float last = kMinusInf;
  for (float v : logits.subspan(num_full * kLogitBlock)) {
    last = v > last ? v : last;
    scan.has_nan |= v != v;
  }
  block_max[num_full] = last;
  scan.max = std::max(scan.max, last);
  return scan;
}

TokenId FirstMax(absl::Span<const float> logits, const std::vector<float>& block_max, float max) {
  const auto block = std::find(block_max.begin(), block_max.end(), max) - block_max.begin();
  const auto begin = logits.begin() + block * kLogitBlock;
  const auto found = std::find(begin, logits.end(), max);
  DCHECK(found != logits.end());
  return static_cast<TokenId>(found - logits.begin());
}

double SumWeights(absl::Span<const float> logits, SoftmaxScale scale,
                  std::vector<double>& block_sum) {
  block_sum.resize(NumBlocks(logits));
  double total = 0;
  const int64_t num_full = static_cast<int64_t>(logits.size()) / kLogitBlock;
  for (int64_t b = 0; b < num_full; ++b) {
    block_sum[b] = FullBlockSum(logits.data() + b * kLogitBlock, scale);
    total += block_sum[b];
  }
  if (num_full == static_cast<int64_t>(block_sum.size())) return total;
  double last = 0;
  for (float v : logits.subspan(num_full * kLogitBlock)) last += scale.Weight(v);
  block_sum[num_full] = last;
  return total + last;
}

TokenId TokenAtMass(absl::Span<const float> logits, SoftmaxScale scale,
                    const std::vector<double>& block_sum, double point) {
  double before = 0;
  size_t block = 0;
  for (size_t b = 0; b < block_sum.size(); ++b) {
    if (block_sum[b] == 0) continue;
    // Also the answer if no block follows: `before` may have rounded up to `point`.
    block = b;
    if (before + block_sum[b] > point) break;
    before += block_sum[b];
  }
  const size_t begin = block * kLogitBlock;
  const size_t end = std::min(logits.size(), begin + kLogitBlock);
  size_t token = begin;
  for (size_t i = begin; i < end; ++i) {
    const float weight = scale.Weight(logits[i]);
    if (weight == 0) continue;
    // The block's sum was rounded in another order, so that its end may lie just past the last
    // token's: that token then is the answer.
    token = i;
    before += weight;
    if (before > point) break;
  }
  return static_cast<TokenId>(token);
}

}  // namespace moelight
