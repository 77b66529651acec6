// The measurement that all probes share: a kernel, its roofs and, if asked for, copies beside it
// take turns.
#ifndef MOELIGHT_ENGINE_CPU_PROBE_KERNEL_TURNS_H_
#define MOELIGHT_ENGINE_CPU_PROBE_KERNEL_TURNS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/isa.h"
#include "engine/cpu_probe/copy_load.h"
#include "engine/cpu_probe/roofs.h"
#include "engine/kernel_rates.h"

namespace moelight {

// What the probes of kernels run on.
struct CpuProbeOptions {
  int32_t num_threads = 1;
  std::string isa = {};                     // empty: every variant that the machine runs
  int64_t memory_bytes = int64_t{4} << 30;  // at most, for what is read
};

// A call that reads cold memory, each time another piece of it.
struct ProbedCall {
  int64_t bytes = 0;
  int64_t flops = 0;
  std::function<absl::Status()> run;
};

// `copies` may be null: nothing is copied. Takes about a second, more if one call takes long.
absl::StatusOr<KernelRate> MeasureInTurns(const ProbedCall& call, CpuRoofs& roofs,
                                          CopyLoad* copies);

// The variants that `options` asks for. InvalidArgument if there is none of that name.
absl::StatusOr<std::vector<const CpuIsa*>> ProbedIsas(const CpuProbeOptions& options);

// The cpu backend of one variant, ready for calls within `limits`.
absl::StatusOr<std::unique_ptr<Backend>> CreateProbedBackend(const CpuProbeOptions& options,
                                                             const CpuIsa& isa,
                                                             const OpLimits& limits);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_PROBE_KERNEL_TURNS_H_
