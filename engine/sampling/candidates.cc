#include "engine/sampling/candidates.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <iterator>
#include <limits>

#include "engine/base/check.h"

namespace moelight {
namespace {

// Keeps the order of ids.
void DropAfter(const Candidate& last_kept, std::vector<Candidate>& candidates) {
  std::erase_if(candidates, [&](const Candidate& c) { return RanksBefore(last_kept, c); });
}

// Bins of equal width in the scaled logit, in order of rank, the last one open-ended. Beyond 64
// below the maximum a weight is under 2e-28, which no sum of the others notices.
constexpr int kNumBins = 1024;
constexpr float kBinsPerUnit = kNumBins / 64.0f;

int BinOf(const Candidate& c, SoftmaxScale scale) {
  const float distance = (scale.max - c.logit) * scale.inverse_temperature * kBinsPerUnit;
  return static_cast<int>(std::min(distance, kNumBins - 1.0f));
}

// Sets `work` to the bin in which the running sum of weights, by rank, reaches the mass (the last
// one with candidates if it never does), and returns the sum of the bins before it.
double CopyBoundaryBin(double mass, SoftmaxScale scale, const std::vector<Candidate>& candidates,
                       std::vector<Candidate>& work) {
  std::array<double, kNumBins> bin_sum = {};
  int last = 0;
  for (const Candidate& c : candidates) {
    const int bin = BinOf(c, scale);
    bin_sum[bin] += c.weight;
    last = std::max(last, bin);
  }
  double above = 0;
  int boundary = 0;
  while (boundary < last && above + bin_sum[boundary] < mass) above += bin_sum[boundary++];
  work.clear();
  std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(work),
               [&](const Candidate& c) { return BinOf(c, scale) == boundary; });
  return above;
}

// Of candidates that follow others weighing `above` < mass, the one at which the sum reaches the
// mass, or the last. Reorders them.
Candidate LastKept(double mass, double above, std::vector<Candidate>& candidates) {
  // Bisection: those ranked before `low` weigh less than the mass, with those up to `high` they
  // reach it. Each step halves the range it partitions: linear time on average.
  size_t low = 0;
  size_t high = candidates.size();
  const auto at = [&](size_t i) { return candidates.begin() + static_cast<ptrdiff_t>(i); };
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    std::nth_element(at(low), at(middle), at(high), RanksBefore);
    double upper_half = 0;
    for (size_t i = low; i < middle; ++i) upper_half += candidates[i].weight;
    if (above + upper_half >= mass) {
      high = middle;
    } else {
      above += upper_half;
      low = middle;
    }
  }
  return candidates[low];
}

}  // namespace

float TopKFloor(const std::vector<float>& block_max, int64_t k, std::vector<float>& work) {
  if (k > static_cast<int64_t>(block_max.size())) return -std::numeric_limits<float>::infinity();
  work = block_max;
  std::nth_element(work.begin(), work.begin() + (k - 1), work.end(), std::greater<float>());
  return work[k - 1];
}

void GatherCandidates(absl::Span<const float> logits, const std::vector<float>& block_max,
                      float floor, std::vector<Candidate>& candidates) {
  // Minus infinity marks masked tokens, which no floor lets in.
  const float lowest = std::max(floor, std::numeric_limits<float>::lowest());
  candidates.clear();
  for (size_t b = 0; b < block_max.size(); ++b) {
    if (block_max[b] < lowest) continue;
    const size_t begin = b * kLogitBlock;
    const size_t end = std::min(logits.size(), begin + kLogitBlock);
    for (size_t i = begin; i < end; ++i) {
      if (logits[i] >= lowest) candidates.push_back({static_cast<TokenId>(i), logits[i], 0});
    }
  }
}

void KeepTopK(int64_t k, std::vector<Candidate>& candidates, std::vector<Candidate>& work) {
  DCHECK(k >= 1);
  if (k >= static_cast<int64_t>(candidates.size())) return;
  work = candidates;
  std::nth_element(work.begin(), work.begin() + (k - 1), work.end(), RanksBefore);
  DropAfter(work[k - 1], candidates);
}

double WeighCandidates(SoftmaxScale scale, std::vector<Candidate>& candidates) {
  double sum = 0;
  for (Candidate& c : candidates) {
    c.weight = scale.Weight(c.logit);
    sum += c.weight;
  }
  return sum;
}

double KeepTopP(double mass, SoftmaxScale scale, std::vector<Candidate>& candidates,
                std::vector<Candidate>& work) {
  double above = 0;
  if (static_cast<int>(candidates.size()) <= kNumBins) {
    work = candidates;
  } else {
    above = CopyBoundaryBin(mass, scale, candidates, work);
  }
  DropAfter(LastKept(mass, above, work), candidates);
  double kept = 0;
  for (const Candidate& c : candidates) kept += c.weight;
  return kept;
}

TokenId CandidateAtMass(const std::vector<Candidate>& candidates, double point) {
  DCHECK(!candidates.empty());
  TokenId token = candidates.front().token;
  double sum = 0;
  for (const Candidate& c : candidates) {
    if (c.weight == 0) continue;
    token = c.token;
    sum += c.weight;
    if (sum > point) break;
  }
  return token;
}

}  // namespace moelight
