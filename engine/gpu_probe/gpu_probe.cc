#include "engine/gpu_probe/gpu_probe.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/base/check.h"
#include "engine/base/spread.h"
#include "engine/base/status_macros.h"
#include "engine/gpu_probe/gpu_parts.h"

namespace moelight {
namespace {

absl::Status MeasureExperts(GpuProbe& probe, WidestSpread& widest) {
  for (const ExpertLayerSize& size : probe.spec.experts) {
    RETURN_IF_ERROR(MeasureExpertLayer(size, probe, widest));
  }
  if (!probe.profile.experts.empty()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("no layer of experts fits the ",
                                                   probe.memory_bytes,
                                                   " bytes of GPU memory that the probe may take"));
}

std::string ExpertsText(const GpuProfile& profile) {
  std::string text = "experts at up to";
  for (const ExpertRateCurve& curve : profile.experts) {
    absl::StrAppendFormat(&text, " %.4g TFLOP/s (%d x %d)", curve.flops_per_s.Peak() * 1e-12,
                          curve.hidden_size, curve.intermediate_size);
  }
  absl::StrAppendFormat(&text, ", weights are read at %.4g GB/s",
                        profile.memory_bytes_per_s * 1e-9);
  return text;
}

}  // namespace

absl::StatusOr<GpuProfile> MeasureGpu(Backend& backend, const GpuProbeSpec& spec,
                                      const std::function<void(absl::string_view)>& on_progress) {
  CHECK(backend.has_device_memory()) << backend.description();
  const int64_t free_bytes = backend.free_device_bytes();
  DeviceData data(backend);
  const std::unique_ptr<Stream> stream = backend.CreateStream(Lane::kGpu);
  GpuProbe probe = {backend, spec, std::min(spec.memory_bytes, free_bytes / 2), data, *stream};
  GpuProfile& profile = probe.profile;
  profile.name = backend.description();
  profile.count = 1;
  profile.memory_bytes = free_bytes;

  const auto report = [&](const std::string& result, const WidestSpread& widest) {
    profile.spread = std::max(profile.spread, widest.relative());
    if (on_progress) on_progress(absl::StrCat("gpu: ", result, "; ", widest.ToText()));
  };
  WidestSpread of_matmuls, of_experts, of_prompts, of_launches;
  RETURN_IF_ERROR(MeasureMatMuls(probe, of_matmuls));
  report(absl::StrFormat("dense products at up to %.4g TFLOP/s",
                         profile.matmul_flops_per_s.Peak() * 1e-12),
         of_matmuls);
  RETURN_IF_ERROR(MeasureExperts(probe, of_experts));
  report(ExpertsText(profile), of_experts);
  RETURN_IF_ERROR(MeasurePrompts(probe, of_prompts));
  report(absl::StrFormat("attention of prompts at %.4g TFLOP/s",
                         profile.attention_flops_per_s * 1e-12),
         of_prompts);
  RETURN_IF_ERROR(MeasureLaunches(probe, of_launches));
  report(absl::StrFormat("a small op every %.2f us", profile.launch_us), of_launches);
  return std::move(probe.profile);
}

OpLimits LeastLimits() {
  OpLimits limits;
  limits.max_tokens = 1;
  limits.max_sequences = 1;
  limits.hidden_size = 1;
  limits.max_intermediate_size = 1;
  limits.num_experts = 1;
  limits.num_experts_per_tok = 1;
  limits.max_model_len = 1;
  limits.max_matmul_rows = 1;
  limits.heads = {1, 1, 2};
  return limits;
}

}  // namespace moelight
