// Truncation of the distribution: the tokens that top_k, min_p and top_p leave, without sorting the
// vocabulary.
//
// Candidates rank by logit, the lower id first among equals, so that every set here is unique and
// top_k = 1 is greedy. They are kept in order of ids, not of rank: logits that differ in the last
// bit (another batch size, another kernel) may swap ranks, but hardly move the running sums from
// which a token is drawn.
//
// Pure functions; allocate only when an output vector first grows.
#ifndef MOELIGHT_ENGINE_SAMPLING_CANDIDATES_H_
#define MOELIGHT_ENGINE_SAMPLING_CANDIDATES_H_

#include <cstdint>
#include <vector>

#include <absl/types/span.h>

#include "engine/request.h"
#include "engine/sampling/logit_blocks.h"

namespace moelight {

struct Candidate {
  TokenId token;
  float logit;
  float weight;  // set by WeighCandidates()
};

inline bool RanksBefore(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// A bound that at least k logits reach, from the block maxima; -infinity if there are fewer than k
// blocks. Close to the k-th logit when the k largest are spread over blocks.
float TopKFloor(const std::vector<float>& block_max, int64_t k, std::vector<float>& work);

// Sets `candidates` to the finite logits >= floor, in order of ids.
void GatherCandidates(absl::Span<const float> logits, const std::vector<float>& block_max,
                      float floor, std::vector<Candidate>& candidates);

// Keeps the k that rank first.
void KeepTopK(int64_t k, std::vector<Candidate>& candidates, std::vector<Candidate>& work);

// Sets the weights and returns their sum.
double WeighCandidates(SoftmaxScale scale, std::vector<Candidate>& candidates);

// Keeps the shortest run of first-ranking candidates whose weights reach `mass`, all if they do
// not, and returns their sum.
// REQUIRES: `scale` is the one of the weights.
double KeepTopP(double mass, SoftmaxScale scale, std::vector<Candidate>& candidates,
                std::vector<Candidate>& work);

// The first candidate at which the running sum of weights exceeds `point`; never one of weight 0.
// REQUIRES: 0 <= point < the sum of weights.
TokenId CandidateAtMass(const std::vector<Candidate>& candidates, double point);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SAMPLING_CANDIDATES_H_
