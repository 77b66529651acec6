// The host's part of the hardware probe: memory, attention, experts and sampling on the engine's
// compute threads, with the best kernels of this machine.
//
// Threads: the caller's, which no ParallelRunner may have bound, and workers. Allocates for its own
// time. Errors: InvalidArgument for keys of the configuration, ResourceExhausted for memory.
#ifndef MOELIGHT_ENGINE_HOST_PROBE_H_
#define MOELIGHT_ENGINE_HOST_PROBE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/backend/backend.h"
#include "engine/base/hardware_profile.h"
#include "engine/engine.h"

namespace moelight {

// The defaults take 20 s on 2 cores and on 16.
struct HostProbeSpec {
  struct ExpertSize {
    int64_t hidden_size = 0;
    int64_t intermediate_size = 0;
  };

  // Of a kernel, at least. Some 30 figures of 15 turns each.
  double turn_seconds = 0.03;
  // At most, and half of what is free. Shapes that need more are measured with fewer sequences, or
  // left out if they are experts.
  int64_t memory_bytes = int64_t{4} << 30;

  // One group size for each number of KV heads: 1, 4 and 8.
  int32_t num_attention_heads = 32;
  std::vector<int32_t> num_key_value_heads = {32, 8, 4};
  int32_t head_dim = 128;
  int32_t batch = 64;  // sequences; enough for all threads
  std::vector<std::string> kv_formats = {"bf16", "int8"};
  std::vector<int32_t> contexts = {32, 128, 512, 2048};

  // Mixtral-8x7B's experts, which are large, and Qwen3-30B's, which are small.
  std::vector<ExpertSize> experts = {{4096, 14336}, {2048, 768}};
  std::vector<int64_t> expert_tokens = {1, 4, 16, 64, 256};

  int32_t vocab_size = 131072;
};

// `gpu` (may be null) is copied to while kernels run, to learn what memory gives both.
// `on_progress` (may be empty) is told each part's result and how far its turns lie apart.
absl::StatusOr<HostProfile> MeasureHost(const EngineOptions& options, const HostProbeSpec& spec,
                                        Backend* gpu,
                                        const std::function<void(absl::string_view)>& on_progress);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_HOST_PROBE_H_
