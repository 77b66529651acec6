// OpCosts: how long ops and copies take on the machine of a HardwareProfile, and what they move and
// compute.
//
// One set of formulas: the simulated backend runs on them, and the planner predicts with them. An
// op takes the longer of its operations at the attained rate and its bytes at the attained rate of
// the memory that it reads (MoE-Lightning equation 5), and at least one launch.
//
// Several GPUs count as one with the sum of their memories, rates and links, each with its own copy
// of what every token needs and its share of the experts.
//
// Pure; thread-safe.
#ifndef MOELIGHT_ENGINE_BACKEND_SIMULATED_OP_COSTS_H_
#define MOELIGHT_ENGINE_BACKEND_SIMULATED_OP_COSTS_H_

#include <cstdint>

#include "engine/backend/ops.h"
#include "engine/base/hardware_profile.h"

namespace moelight {

// Decode attention in the engine takes 1.2 to 1.9 times, in the median of 24 runs on an H200
// machine 1.4 times, what the probe sees call after call: its threads rest between micro-batches,
// and what the GPU wrote is not in their caches.
inline constexpr double kHostAttentionInEngine = 1.4;

// Of one op or copy, or of several in a row.
struct OpCost {
  double us = 0;
  double flops = 0;
  double bytes = 0;  // of the processor's own memory, or over the link

  OpCost& operator+=(const OpCost& other) {
    us += other.us;
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
};

// Tokens through the experts of one layer.
struct ExpertShape {
  int64_t num_tokens = 0;
  int64_t num_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t expert_bytes = 0;  // of the weights of one expert, as stored
};

// The profile with its GPUs as one.
HardwareProfile AsOneDevice(HardwareProfile profile);

class OpCosts {
 public:
  explicit OpCosts(const HardwareProfile& profile);

  // --- On the device: the GPU, or the host if there is none ---
  // Ops on rows that only move them: norms, rotation, embedding, gathering.
  OpCost Rows(int64_t bytes) const;
  // [rows, num_cols] x [num_rows, num_cols]^T with weights of `weight_bytes`; activations of
  // `activation_bytes` an element.
  OpCost MatMul(int64_t rows, int64_t num_rows, int64_t num_cols, int64_t weight_bytes,
                int64_t activation_bytes) const;
  OpCost Router(int64_t rows, int64_t hidden_size, int64_t num_experts) const;
  // Routing is taken to be even, as that of trained models nearly is.
  OpCost Experts(const ExpertShape& shape) const;
  // `num_pairs` of a new token and a position that it sees; `kv_bytes` of pages touched.
  OpCost DeviceAttention(const HeadGeometry& heads, int64_t num_pairs, int64_t kv_bytes) const;
  // Within device memory.
  OpCost DeviceCopy(int64_t bytes) const;

  // --- On the host ---
  OpCost HostAttention(const HeadGeometry& heads, DType kv_dtype, int64_t num_new_tokens,
                       int64_t num_pairs) const;
  OpCost HostExperts(const ExpertShape& shape) const;
  // The sampler's look at logits of `bytes`.
  OpCost Sample(int64_t bytes) const;

  // --- Over the link ---
  OpCost ToDevice(int64_t bytes) const { return OverLink(profile_.link.h2d_bytes_per_s, bytes); }
  OpCost ToHost(int64_t bytes) const { return OverLink(profile_.link.d2h_bytes_per_s, bytes); }
  // KV pages, brought by a kernel that reads the host's memory in place: large pieces in effect.
  OpCost PagesToDevice(int64_t bytes) const { return ToDevice(bytes); }
  OpCost PagesToHost(int64_t bytes) const { return ToHost(bytes); }

  // AsOneDevice().
  const HardwareProfile& profile() const { return profile_; }

 private:
  // A processor with the memory that feeds it.
  struct Processor {
    double memory_bytes_per_s = 0;
    double launch_us = 0;
    RateCurve matmul_flops_per_s;
    const std::vector<ExpertRateCurve>* experts = nullptr;
    double attention_flops_per_s = 0;
  };
  static OpCost Timed(const Processor& processor, double flops, double flops_per_s, double bytes);
  OpCost OverLink(const RateCurve& bytes_per_s, int64_t bytes) const;
  static OpCost ExpertsOn(const Processor& processor, const ExpertShape& shape);

  const HardwareProfile profile_;
  Processor host_;
  Processor device_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_SIMULATED_OP_COSTS_H_
