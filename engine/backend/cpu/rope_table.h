// RopeTable: cosines and sines of the rotary angles by position.
//
// They are the same in all layers and steps, and computing them for one token costs more than
// rotating its heads. Rows are filled when a position is first seen.
// Threads: engine thread. Allocates in Reserve() only.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ROPE_TABLE_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ROPE_TABLE_H_

#include <vector>

#include "engine/backend/cpu/aligned_buffer.h"
#include "engine/backend/ops.h"

namespace moelight {

class RopeTable {
 public:
  static int64_t ScratchBytes(const OpLimits& limits);
  absl::Status Reserve(const OpLimits& limits);

  // Makes rows [0, num_positions) available for these frequencies, [half] of them. Others than the
  // last time empty the table.
  void Prepare(const float* inv_freq, int64_t half, int64_t num_positions);
  const float* cos(int64_t position) const { return rows_.as<float>() + position * 2 * half_; }
  const float* sin(int64_t position) const { return cos(position) + half_; }

 private:
  AlignedBuffer rows_;  // [max_model_len][cos, sin][half]
  std::vector<float> inv_freq_;
  int64_t half_ = 0;
  int64_t capacity_ = 0;  // rows
  int64_t num_filled_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ROPE_TABLE_H_
