#include "engine/scheduler/length_model.h"

#include <algorithm>
#include <cmath>

#include "engine/base/check.h"

namespace moelight {
namespace {

// What is expected beforehand counts as much as so many tokens seen at each length: an eighth of
// what the first 64 answers show in a bucket.
constexpr double kPriorTokens = 64;
// No chance to end is certain: one more token is always thinkable.
constexpr double kMaxHazard = 0.999;

}  // namespace

LengthModel::LengthModel(int32_t expected_tokens) : expected_hazard_(1.0 / expected_tokens) {
  CHECK_GT(expected_tokens, 0);
}

LengthModel::Bucket& LengthModel::At(int32_t num_tokens) {
  const size_t index = num_tokens / kBucketTokens;
  if (index >= buckets_.size()) buckets_.resize(index + 1);
  is_summed_ = false;
  return buckets_[index];
}

void LengthModel::Ended(int32_t num_tokens) {
  Bucket& bucket = At(num_tokens);
  bucket.num_seen += 1;
  bucket.num_ended += 1;
}

double LengthModel::Hazard(const Bucket& bucket) const {
  return std::min(kMaxHazard, (bucket.num_ended + kPriorTokens * expected_hazard_) /
                                  (bucket.num_seen + kPriorTokens));
}

double LengthModel::LogSurvival(int32_t num_tokens) const {
  if (!is_summed_) {
    log_survival_.assign(1, 0);
    for (const Bucket& bucket : buckets_) {
      log_survival_.push_back(log_survival_.back() + kBucketTokens * std::log1p(-Hazard(bucket)));
    }
    is_summed_ = true;
  }
  const size_t index = std::min<size_t>(num_tokens / kBucketTokens, buckets_.size());
  const double hazard = index < buckets_.size() ? Hazard(buckets_[index]) : Hazard(Bucket());
  const double beyond = num_tokens - static_cast<double>(index) * kBucketTokens;
  return log_survival_[index] + beyond * std::log1p(-hazard);
}

double LengthModel::Survival(int32_t num_tokens, int32_t num_more) const {
  return std::exp(LogSurvival(num_tokens + num_more) - LogSurvival(num_tokens));
}

double LengthModel::ExpectedTokens(int32_t max_tokens) const {
  double sum = 0;
  for (int32_t begin = 0; begin < max_tokens; begin += kBucketTokens) {
    const int32_t count = std::min(kBucketTokens, max_tokens - begin);
    const double survival = Survival(0, begin);
    // What comes behind adds nothing that counts.
    if (survival < 1e-4) break;
    sum += survival * count;
  }
  return sum;
}

}  // namespace moelight
