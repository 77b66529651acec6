// LengthModel: how long the answers of a job will be, learnt from its answers so far.
//
// The chance to end is estimated by length: answers that ended at it among all that reached it,
// those still running included, or short answers, which end first, would pass for typical (the
// estimator of Kaplan and Meier, 1958). Before much was seen, a chance of one in the expected
// length counts.
//
// Threads: engine thread. Allocates when an answer is longer than any before. No errors.
#ifndef MOELIGHT_ENGINE_SCHEDULER_LENGTH_MODEL_H_
#define MOELIGHT_ENGINE_SCHEDULER_LENGTH_MODEL_H_

#include <cstdint>
#include <vector>

namespace moelight {

class LengthModel {
 public:
  explicit LengthModel(int32_t expected_tokens);

  // An answer of `num_tokens` goes on.
  void WentOn(int32_t num_tokens) { At(num_tokens).num_seen += 1; }
  // An answer ended by itself with `num_tokens`; those cut by their limit tell nothing.
  void Ended(int32_t num_tokens);

  // The chance that an answer of `num_tokens` has `num_more` more at least, in [0, 1].
  double Survival(int32_t num_tokens, int32_t num_more) const;
  // Tokens that an answer of none is expected to get, with at most `max_tokens`.
  double ExpectedTokens(int32_t max_tokens) const;

 private:
  struct Bucket {
    double num_seen = 0;
    double num_ended = 0;
  };
  static constexpr int32_t kBucketTokens = 8;

  Bucket& At(int32_t num_tokens);
  double Hazard(const Bucket& bucket) const;
  double LogSurvival(int32_t num_tokens) const;

  const double expected_hazard_;
  std::vector<Bucket> buckets_;
  mutable bool is_summed_ = false;
  mutable std::vector<double> log_survival_;  // up to each bucket's first token, and the last's end
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_LENGTH_MODEL_H_
