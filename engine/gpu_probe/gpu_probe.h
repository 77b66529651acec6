// The GPU's part of the hardware probe: the ops of a backend with device memory, called as the
// engine calls them, through Backend alone.
//
// Threads: the caller's; nothing else may use the backend meanwhile, whose Reserve() is called
// anew. Allocates for its own time. Errors: ResourceExhausted for memory, what the device says
// otherwise.
#ifndef MOELIGHT_ENGINE_GPU_PROBE_GPU_PROBE_H_
#define MOELIGHT_ENGINE_GPU_PROBE_GPU_PROBE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/backend/backend.h"
#include "engine/backend/ops.h"
#include "engine/base/hardware_profile.h"
#include "engine/gpu_probe/device_turns.h"

namespace moelight {

// One layer of experts.
struct ExpertLayerSize {
  int64_t num_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
};

struct GpuProbeSpec {
  DeviceTurnSpec turns;
  // At most, and half of what is free. What needs more gets fewer experts or prompts; calls with
  // more tokens than fit are left out.
  int64_t memory_bytes = int64_t{6} << 30;
  // Dense weights that calls go round: several times the 50 MB of the largest caches there are.
  int64_t cold_bytes = int64_t{384} << 20;

  int64_t matmul_inputs = 4096;
  int64_t matmul_outputs = 6144;
  std::vector<int64_t> matmul_rows = {1, 16, 64, 256, 1024, 4096};  // ascending

  // Mixtral-8x7B's and Qwen3-30B's.
  std::vector<ExpertLayerSize> experts = {{8, 2, 4096, 14336}, {128, 8, 2048, 768}};
  std::vector<int64_t> tokens_per_expert = {1, 4, 16, 64, 256, 1024};  // ascending
  int64_t weight_page_bytes = int64_t{16} << 20;

  int32_t num_prompts = 8;
  int32_t prompt_tokens = 512;
  HeadGeometry heads = {32, 8, 128};
  int32_t page_tokens = 16;
};

// `on_progress` (may be empty) is told each part's result and how far its turns lie apart.
absl::StatusOr<GpuProfile> MeasureGpu(Backend& backend, const GpuProbeSpec& spec,
                                      const std::function<void(absl::string_view)>& on_progress);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_GPU_PROBE_GPU_PROBE_H_
