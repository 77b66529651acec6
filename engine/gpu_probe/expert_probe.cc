// Grouped products with the weights of all experts of a layer.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/gpu_probe/expert_calls.h"
#include "engine/gpu_probe/gpu_parts.h"

namespace moelight {
namespace {

// The layer with as many of its experts as half of the memory holds; the other half is for tokens.
ExpertLayerSize FitExperts(ExpertLayerSize size, const GpuProbe& probe) {
  const int64_t expert_bytes = ExpertCalls::ExpertBytes(size, probe.backend);
  size.num_experts = std::min(size.num_experts, probe.memory_bytes / 2 / expert_bytes);
  return size;
}

// Those numbers of tokens whose calls fit.
std::vector<int64_t> FitTokens(const ExpertLayerSize& size, const GpuProbe& probe) {
  const GpuProbeSpec& spec = probe.spec;
  CHECK(std::is_sorted(spec.tokens_per_expert.begin(), spec.tokens_per_expert.end()));
  std::vector<int64_t> fitting;
  for (const int64_t tokens_per_expert : spec.tokens_per_expert) {
    const int64_t num_tokens = ExpertCalls::NumTokens(size, tokens_per_expert);
    if (ExpertCalls::DeviceBytes(size, spec.weight_page_bytes, num_tokens, probe.backend) >
        probe.memory_bytes) {
      break;
    }
    fitting.push_back(num_tokens);
  }
  return fitting;
}

}  // namespace

absl::Status MeasureExpertLayer(const ExpertLayerSize& whole, GpuProbe& probe,
                                WidestSpread& widest) {
  const ExpertLayerSize size = FitExperts(whole, probe);
  if (size.num_experts < size.num_experts_per_tok) return absl::OkStatus();
  const std::vector<int64_t> fitting = FitTokens(size, probe);
  if (fitting.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::unique_ptr<ExpertCalls> calls,
                   ExpertCalls::Create(size, probe.spec.weight_page_bytes, fitting.back(),
                                       probe.backend, probe.data));
  const int64_t layer_bytes = size.num_experts * ExpertCalls::ExpertBytes(size, probe.backend);
  ExpertRateCurve curve = {size.hidden_size, size.intermediate_size, {}};
  for (const int64_t num_tokens : fitting) {
    RETURN_IF_ERROR(calls->Route(num_tokens));
    ASSIGN_OR_RETURN(const DeviceTimes times, MeasureOnDevice(probe.spec.turns, probe.stream, [&] {
                       return calls->Issue(probe.stream);
                     }));
    // A multiplication and an addition for every weight of the three projections.
    const int64_t num_pairs = num_tokens * size.num_experts_per_tok;
    const int64_t flops = 2 * 3 * num_pairs * size.hidden_size * size.intermediate_size;
    const double seconds = times.device_seconds.median;
    const double tokens_per_expert =
        static_cast<double>(num_pairs) / static_cast<double>(size.num_experts);
    curve.flops_per_s.points.push_back({tokens_per_expert, static_cast<double>(flops) / seconds});
    // Fewer pairs than experts leave some unread.
    if (num_pairs >= size.num_experts) {
      probe.SawReads(static_cast<double>(layer_bytes) / seconds);
    }
    widest.Add(absl::StrCat(num_tokens, " tokens, experts of ", size.hidden_size, " x ",
                            size.intermediate_size),
               times.device_seconds);
  }
  probe.profile.experts.push_back(std::move(curve));
  return absl::OkStatus();
}

}  // namespace moelight
