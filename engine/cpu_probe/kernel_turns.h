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
#include "engine/base/parallel.h"
#include "engine/cpu_probe/copy_load.h"
#include "engine/cpu_probe/roofs.h"
#include "engine/kernel_rates.h"

namespace moelight {

// What the probes of kernels run on.
struct CpuProbeOptions {
  ParallelOptions threads = {};
  std::string isa = {};                     // empty: every variant that the machine runs
  int64_t memory_bytes = int64_t{4} << 30;  // at most, for what is read
  // Of a kernel, at least: long beside a fork and a join (some 10 us), short beside what changes
  // clocks. Its roofs get half of it each.
  double turn_seconds = 0.04;
};

// A call that reads cold memory, each time another piece of it.
struct ProbedCall {
  int64_t bytes = 0;
  int64_t flops = 0;
  std::function<absl::Status()> run;
};

// `copies` may be null: nothing is copied. Takes about ten turns, more if one call takes longer.
absl::StatusOr<KernelRate> MeasureInTurns(const ProbedCall& call, double turn_seconds,
                                          CpuRoofs& roofs, CopyLoad* copies);

// A variant of the cpu backend that is measured.
struct ProbedBackend {
  const CpuIsa* isa;
  std::unique_ptr<Backend> backend;
};

// The variants that `options` asks for, ready for calls within `limits`. InvalidArgument if there
// is none of that name. To be called before loops run on the threads, which may bind the caller.
absl::StatusOr<std::vector<ProbedBackend>> CreateProbedBackends(const CpuProbeOptions& options,
                                                                const OpLimits& limits,
                                                                const std::string& kv_format = "");

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_PROBE_KERNEL_TURNS_H_
