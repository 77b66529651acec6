// The probe of experts: Backend::MoeFfn of the cpu backend with all tokens of a call at one expert,
// whose weights come from memory, because each call takes the next one.
//
// Threads: the caller's and, for the time of the call, workers and a thread that copies. Allocates
// for its own time.
#ifndef MOELIGHT_ENGINE_CPU_PROBE_EXPERT_PROBE_H_
#define MOELIGHT_ENGINE_CPU_PROBE_EXPERT_PROBE_H_

#include <cstdint>
#include <functional>

#include <absl/status/statusor.h>

#include "engine/cpu_probe/copy_load.h"
#include "engine/cpu_probe/kernel_turns.h"
#include "engine/kernel_rates.h"

namespace moelight {

// Bytes of the weights of one expert, and the operations of the products of one call.
int64_t ExpertProbeBytes(const ExpertProbeSpec& spec);
int64_t ExpertProbeFlops(const ExpertProbeSpec& spec, int64_t tokens);

// As MeasureAttention(): every variant, every number of tokens.
absl::StatusOr<ExpertRates> MeasureExperts(const ExpertProbeSpec& spec,
                                           const CpuProbeOptions& options, CopyLoad* copies,
                                           const std::function<void(const ExpertRate&)>& on_row);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_PROBE_EXPERT_PROBE_H_
