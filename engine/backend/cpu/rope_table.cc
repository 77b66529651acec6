#include "engine/backend/cpu/rope_table.h"

#include <algorithm>
#include <cmath>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {

int64_t RopeTable::ScratchBytes(const OpLimits& limits) {
  return limits.max_model_len * limits.heads.head_dim * static_cast<int64_t>(sizeof(float));
}

absl::Status RopeTable::Reserve(const OpLimits& limits) {
  RETURN_IF_ERROR(rows_.Resize(ScratchBytes(limits), "the table of rotary angles"));
  half_ = limits.heads.head_dim / 2;
  capacity_ = limits.max_model_len;
  num_filled_ = 0;
  inv_freq_.assign(half_, 0.0f);
  return absl::OkStatus();
}

void RopeTable::Prepare(const float* inv_freq, int64_t half, int64_t num_positions) {
  CHECK_EQ(half, half_) << "head_dim is not that of Reserve()";
  CHECK_LE(num_positions, capacity_) << "beyond Reserve()";
  if (!std::equal(inv_freq_.begin(), inv_freq_.end(), inv_freq)) {
    inv_freq_.assign(inv_freq, inv_freq + half);
    num_filled_ = 0;
  }
  for (; num_filled_ < num_positions; ++num_filled_) {
    float* cosines = rows_.as<float>() + num_filled_ * 2 * half_;
    for (int64_t i = 0; i < half_; ++i) {
      const float angle = static_cast<float>(num_filled_) * inv_freq_[i];
      cosines[i] = std::cos(angle);
      cosines[half_ + i] = std::sin(angle);
    }
  }
}

}  // namespace moelight
