// Attention of prompts, over staging pages.
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/gpu_probe/gpu_parts.h"
#include "engine/memory/arena.h"

namespace moelight {
namespace {

int64_t PagesPerPrompt(const GpuProbeSpec& spec) {
  return (spec.prompt_tokens + spec.page_tokens - 1) / spec.page_tokens;
}

KvLayerView StagingPages(const GpuProbe& probe, int64_t num_prompts) {
  KvLayerView kv;
  kv.dtype = probe.backend.kv_dtype();
  kv.num_pages = num_prompts * PagesPerPrompt(probe.spec);
  kv.page_tokens = probe.spec.page_tokens;
  return kv;
}

OpLimits PromptLimits(const GpuProbeSpec& spec, int64_t num_prompts) {
  OpLimits limits = LeastLimits();
  limits.max_tokens = num_prompts * spec.prompt_tokens;
  limits.max_sequences = num_prompts;
  limits.max_step_tokens = limits.max_tokens;
  limits.max_step_sequences = limits.max_sequences;
  limits.max_step_pages = num_prompts * PagesPerPrompt(spec);
  limits.max_model_len = spec.prompt_tokens;
  limits.heads = spec.heads;
  return limits;
}

int64_t QkvBytes(const GpuProbe& probe, int64_t num_prompts) {
  return num_prompts * probe.spec.prompt_tokens * probe.spec.heads.qkv_size() * probe.act_bytes();
}

int64_t OutBytes(const GpuProbe& probe, int64_t num_prompts) {
  return num_prompts * probe.spec.prompt_tokens * probe.spec.heads.q_size() * probe.act_bytes();
}

int64_t PromptBytes(const GpuProbe& probe, int64_t num_prompts) {
  const KvLayerView kv = StagingPages(probe, num_prompts);
  return Arena::AlignUp(QkvBytes(probe, num_prompts)) +
         Arena::AlignUp(OutBytes(probe, num_prompts)) +
         Arena::AlignUp(kv.num_pages * kv.page_bytes(probe.spec.heads)) +
         probe.backend.scratch_bytes(PromptLimits(probe.spec, num_prompts));
}

// Of the products with K and with V, for the keys that each token sees.
double PromptFlops(const GpuProbeSpec& spec, int64_t num_prompts) {
  const double num_pairs = 0.5 * spec.prompt_tokens * (spec.prompt_tokens + 1.0);
  return 4.0 * spec.heads.head_dim * spec.heads.num_attention_heads * num_pairs *
         static_cast<double>(num_prompts);
}

}  // namespace

absl::Status MeasurePrompts(GpuProbe& probe, WidestSpread& widest) {
  const GpuProbeSpec& spec = probe.spec;
  int64_t num_prompts = spec.num_prompts;
  while (num_prompts > 1 && PromptBytes(probe, num_prompts) > probe.memory_bytes) num_prompts /= 2;
  RETURN_IF_ERROR(probe.backend.Reserve(PromptLimits(spec, num_prompts)));
  KvLayerView kv = StagingPages(probe, num_prompts);
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> staging,
                   probe.data.Random("staging", kv.num_pages * kv.page_bytes(spec.heads)));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> qkv,
                   probe.data.Random("qkv", QkvBytes(probe, num_prompts)));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> out,
                   probe.data.Random("attended", OutBytes(probe, num_prompts)));
  kv.data = staging->data();

  std::vector<int32_t> block_tables(kv.num_pages);
  std::iota(block_tables.begin(), block_tables.end(), 0);
  std::vector<AttentionSequence> sequences;
  for (int32_t s = 0; s < num_prompts; ++s) {
    sequences.push_back({s * spec.prompt_tokens, spec.prompt_tokens, /*num_cached_tokens=*/0,
                         block_tables.data() + s * PagesPerPrompt(spec)});
  }
  AttentionArgs args;
  const int64_t num_tokens = num_prompts * spec.prompt_tokens;
  const DType act = probe.backend.activation_dtype();
  args.qkv = TensorView::Make(qkv->data(), act, {num_tokens, spec.heads.qkv_size()});
  args.heads = spec.heads;
  args.sequences = sequences;
  args.kv = kv;
  args.scale = 1.0f / std::sqrt(static_cast<float>(spec.heads.head_dim));
  args.out = TensorView::Make(out->data(), act, {num_tokens, spec.heads.q_size()});
  ASSIGN_OR_RETURN(const DeviceTimes times, MeasureOnDevice(spec.turns, probe.stream, [&] {
                     return probe.backend.Attention(args, probe.stream);
                   }));
  probe.profile.attention_flops_per_s =
      PromptFlops(spec, num_prompts) / times.device_seconds.median;
  widest.Add(absl::StrCat(num_prompts, " prompts of ", spec.prompt_tokens, " tokens"),
             times.device_seconds);
  return absl::OkStatus();
}

}  // namespace moelight
