// The probe of decode attention: Backend::Attention of the cpu backend, over pages that lie
// scattered in memory, beside the rate at which the same threads read memory in order.
//
// Threads: the caller's and, for the time of the call, workers and a thread that copies. Allocates
// for its own time.
#ifndef MOELIGHT_ENGINE_CPU_PROBE_ATTENTION_PROBE_H_
#define MOELIGHT_ENGINE_CPU_PROBE_ATTENTION_PROBE_H_

#include <cstdint>
#include <functional>

#include <absl/status/statusor.h>

#include "engine/cpu_probe/copy_load.h"
#include "engine/cpu_probe/kernel_turns.h"
#include "engine/kernel_rates.h"

namespace moelight {

// Bytes of K and V that one call reads, and the operations of its products.
int64_t AttentionProbeBytes(const AttentionProbeSpec& spec, const AttentionProbeSpec::Shape& shape);
int64_t AttentionProbeFlops(const AttentionProbeSpec& spec, const AttentionProbeSpec::Shape& shape);

// Every variant, every shape. `on_row` (may be empty) gets each row as soon as it is measured;
// `copies` may be null. InvalidArgument for sizes that make no sense or that the backend does not
// take, or an unknown variant; ResourceExhausted if a shape's KV needs more than
// `options.memory_bytes` or than is free; all of it before anything is measured.
absl::StatusOr<AttentionRates> MeasureAttention(
    const AttentionProbeSpec& spec, const CpuProbeOptions& options, CopyLoad* copies,
    const std::function<void(const AttentionRate&)>& on_row);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_PROBE_ATTENTION_PROBE_H_
