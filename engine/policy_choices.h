// What a candidate of the policy search decides, and the values that are tried.
//
// Pure values.
#ifndef MOELIGHT_ENGINE_POLICY_CHOICES_H_
#define MOELIGHT_ENGINE_POLICY_CHOICES_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "engine/pipeline/step_plan.h"

namespace moelight {

// More micro-batches overlap better and need smaller buffers; fewer read the experts from the GPU's
// memory less often. The paper's policies have up to some 20.
inline constexpr int32_t kMicroBatches[] = {1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 19};
inline constexpr int32_t kRingPercents[] = {125, 150, 200, 100};
// Prompt tokens of a step, in multiples of what a steady stream of requests needs: more fill the
// batch faster and need larger buffers.
inline constexpr int32_t kPromptShares[] = {2, 1, 4, 8};
// Fewer sequences than fit are better where attention takes longer than everything else, and, by
// far fewer, where their buffers would take the memory of experts that could stay resident.
inline constexpr double kSequenceShares[] = {1, 0.75, 0.5, 0.25, 0.125, 1.0 / 64, 1.0 / 256};
// Of those, what is tried again with every ring and prompt share.
inline constexpr size_t kNumLargeShares = 5;
// Numbers of sequences that are tried, per doubling; always the same ones, so that with more memory
// nothing that was possible becomes impossible.
inline constexpr int kSequenceStepsPerDoubling = 32;
inline constexpr int32_t kMaxSequences = 1 << 16;
inline constexpr int64_t kMaxStepTokens = 1 << 17;

// What one candidate decides.
struct Choices {
  const Schedule* schedule = nullptr;
  int32_t num_micro_batches = 0;
  int32_t ring_percent = 0;
  int32_t prompt_share = 0;
  int32_t num_sequences = 0;  // at most; 0: as many as fit
  bool coalesces = false;     // the experts, over groups of micro-batches

  auto key() const {
    return std::tuple(schedule, num_micro_batches, ring_percent, prompt_share, num_sequences,
                      coalesces);
  }
};

using ChoicesKey = decltype(Choices().key());

// All numbers of sequences that are tried, ascending.
inline std::vector<int32_t> SequenceGrid() {
  std::vector<int32_t> grid;
  for (int step = 0;; ++step) {
    const double value = std::exp2(static_cast<double>(step) / kSequenceStepsPerDoubling);
    const int32_t count = static_cast<int32_t>(value);
    if (count > kMaxSequences) return grid;
    if (grid.empty() || grid.back() < count) grid.push_back(count);
  }
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_POLICY_CHOICES_H_
