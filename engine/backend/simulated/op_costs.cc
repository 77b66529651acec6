#include "engine/backend/simulated/op_costs.h"

#include <algorithm>
#include <cmath>

#include "engine/backend/kv_format.h"
#include "engine/base/check.h"

namespace moelight {
namespace {

constexpr double kUsPerSecond = 1e6;
// Waking the workers of the host and waiting for the last of them; cpu_probe sees 8 to 20 us.
constexpr double kHostLaunchUs = 15;
// Kernels behind one MoeFfn on a GPU: gather, two grouped products, scatter-add.
constexpr double kExpertLaunches = 4;
// Kernels behind one Router: logits, top-k, counts, offsets, slots.
constexpr double kRouterLaunches = 5;
// The router multiplies in f32 on plain cores. On an H200, 750 tokens and 128 experts of 2048 take
// some 240 us: 1.6 TFLOP/s, where dense products reach 620.
constexpr double kRouterRateShare = 0.0026;

double Weights(double hidden_size, double intermediate_size) {
  return 3 * hidden_size * intermediate_size;
}

// Rate for experts of this size: between the two probed sizes next to it, along the logarithm of
// the number of weights.
double ExpertRate(const std::vector<ExpertRateCurve>& curves, const ExpertShape& shape,
                  double tokens_per_expert) {
  const double size = Weights(shape.hidden_size, shape.intermediate_size);
  const ExpertRateCurve* below = nullptr;
  const ExpertRateCurve* above = nullptr;
  const auto size_of = [](const ExpertRateCurve& curve) {
    return Weights(curve.hidden_size, curve.intermediate_size);
  };
  for (const ExpertRateCurve& curve : curves) {
    if (size_of(curve) <= size && (below == nullptr || size_of(curve) > size_of(*below))) {
      below = &curve;
    }
    if (size_of(curve) >= size && (above == nullptr || size_of(curve) < size_of(*above))) {
      above = &curve;
    }
  }
  CHECK(below != nullptr || above != nullptr) << "the profile has no expert rates";
  if (below == nullptr) below = above;
  if (above == nullptr) above = below;
  const double low = below->flops_per_s.At(tokens_per_expert);
  const double high = above->flops_per_s.At(tokens_per_expert);
  if (size_of(*above) <= size_of(*below)) return low;
  const double share =
      std::log(size / size_of(*below)) / std::log(size_of(*above) / size_of(*below));
  return low + share * (high - low);
}

// The probed rate for the format and the nearest group size.
const HostAttentionRate& AttentionRateFor(const HostProfile& host, const HeadGeometry& heads,
                                          DType kv_dtype) {
  const double group_size =
      static_cast<double>(heads.num_attention_heads) / heads.num_key_value_heads;
  const HostAttentionRate* nearest = nullptr;
  double least = 0;
  for (const HostAttentionRate& rate : host.attention) {
    // Another format is as far as a group size a thousand times off: only where there is nothing
    // else.
    const double distance = std::abs(std::log(rate.group_size / group_size)) +
                            (rate.kv_format == KvFormatName(kv_dtype) ? 0 : std::log(1000.0));
    if (nearest == nullptr || distance < least) {
      nearest = &rate;
      least = distance;
    }
  }
  CHECK(nearest != nullptr) << "the profile has no attention rates";
  return *nearest;
}

}  // namespace

HardwareProfile AsOneDevice(HardwareProfile profile) {
  const double count = profile.gpu.count;
  if (profile.gpu.count <= 1) return profile;
  profile.gpu.memory_bytes *= profile.gpu.count;
  profile.gpu.memory_bytes_per_s *= count;
  profile.gpu.attention_flops_per_s *= count;
  profile.gpu.matmul_flops_per_s.Scale(count);
  for (ExpertRateCurve& curve : profile.gpu.experts) curve.flops_per_s.Scale(count);
  profile.link.h2d_bytes_per_s.Scale(count);
  profile.link.d2h_bytes_per_s.Scale(count);
  profile.link.both_bytes_per_s *= count;
  profile.power.gpu_watts *= count;
  profile.power.link_watts *= count;
  return profile;
}

OpCosts::OpCosts(const HardwareProfile& profile) : profile_(AsOneDevice(profile)) {
  const HostProfile& host = profile_.host;
  CHECK(!host.experts.empty());
  host_ = {host.read_bytes_per_s, kHostLaunchUs, host.experts.front().flops_per_s, &host.experts,
           host.peak_flops_per_s};
  const GpuProfile& gpu = profile_.gpu;
  device_ = profile_.has_gpu()
                ? Processor{gpu.memory_bytes_per_s, gpu.launch_us, gpu.matmul_flops_per_s,
                            &gpu.experts, gpu.attention_flops_per_s}
                : host_;
}

OpCost OpCosts::Timed(const Processor& processor, double flops, double flops_per_s, double bytes) {
  const double compute_us = flops > 0 ? flops / flops_per_s * kUsPerSecond : 0;
  const double memory_us = bytes / processor.memory_bytes_per_s * kUsPerSecond;
  return {processor.launch_us + std::max(compute_us, memory_us), flops, bytes};
}

OpCost OpCosts::Rows(int64_t bytes) const { return Timed(device_, 0, 0, bytes); }

OpCost OpCosts::MatMul(int64_t rows, int64_t num_rows, int64_t num_cols, int64_t weight_bytes,
                       int64_t activation_bytes) const {
  const double flops = 2.0 * rows * num_rows * num_cols;
  const double bytes =
      weight_bytes + static_cast<double>(rows) * (num_rows + num_cols) * activation_bytes;
  return Timed(device_, flops, device_.matmul_flops_per_s.At(rows), bytes);
}

OpCost OpCosts::Router(int64_t rows, int64_t hidden_size, int64_t num_experts) const {
  const double flops = 2.0 * rows * hidden_size * num_experts;
  const double bytes = 4.0 * (rows + num_experts) * hidden_size;
  OpCost cost = Timed(device_, flops, kRouterRateShare * device_.matmul_flops_per_s.Peak(), bytes);
  if (profile_.has_gpu()) cost.us += (kRouterLaunches - 1) * device_.launch_us;
  return cost;
}

OpCost OpCosts::ExpertsOn(const Processor& processor, const ExpertShape& shape) {
  const double pairs = static_cast<double>(shape.num_tokens) * shape.num_experts_per_tok;
  const double flops = 2 * pairs * Weights(shape.hidden_size, shape.intermediate_size);
  // Experts that at least one token goes to, if each token draws its own without regard to others.
  const double share = static_cast<double>(shape.num_experts_per_tok) / shape.num_experts;
  const double num_active =
      std::max(1.0, shape.num_experts * (1 - std::pow(1 - share, shape.num_tokens)));
  const double rate = ExpertRate(*processor.experts, shape, std::max(1.0, pairs / num_active));
  return Timed(processor, flops, rate, num_active * shape.expert_bytes);
}

OpCost OpCosts::Experts(const ExpertShape& shape) const {
  OpCost cost = ExpertsOn(device_, shape);
  if (profile_.has_gpu()) cost.us += (kExpertLaunches - 1) * device_.launch_us;
  return cost;
}

OpCost OpCosts::HostExperts(const ExpertShape& shape) const { return ExpertsOn(host_, shape); }

OpCost OpCosts::DeviceAttention(const HeadGeometry& heads, int64_t num_pairs,
                                int64_t kv_bytes) const {
  const double flops = 4.0 * heads.q_size() * num_pairs;
  return Timed(device_, flops, device_.attention_flops_per_s, kv_bytes);
}

OpCost OpCosts::DeviceCopy(int64_t bytes) const { return Timed(device_, 0, 0, 2 * bytes); }

OpCost OpCosts::HostAttention(const HeadGeometry& heads, DType kv_dtype, int64_t num_new_tokens,
                              int64_t num_pairs) const {
  if (num_new_tokens == 0) return {};
  const double bytes = 2.0 * heads.num_key_value_heads * KvRowBytes(kv_dtype, heads.head_dim) *
                       static_cast<double>(num_pairs);
  const double mean_context = static_cast<double>(num_pairs) / num_new_tokens;
  const double rate =
      AttentionRateFor(profile_.host, heads, kv_dtype).bytes_per_s.At(std::max(1.0, mean_context)) /
      kHostAttentionInEngine;
  return {host_.launch_us + bytes / rate * kUsPerSecond, 4.0 * heads.q_size() * num_pairs, bytes};
}

OpCost OpCosts::Sample(int64_t bytes) const {
  const HostProfile& host = profile_.host;
  const double rate = std::min(host.sample_bytes_per_s * host.num_threads, host.read_bytes_per_s);
  return {static_cast<double>(bytes) / rate * kUsPerSecond, 0, static_cast<double>(bytes)};
}

OpCost OpCosts::OverLink(const RateCurve& bytes_per_s, int64_t bytes) const {
  if (bytes == 0) return {};
  if (!profile_.has_gpu()) return DeviceCopy(bytes);
  return {profile_.link.latency_us + bytes / bytes_per_s.At(bytes) * kUsPerSecond, 0,
          static_cast<double>(bytes)};
}

}  // namespace moelight
