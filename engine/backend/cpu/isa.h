// The table of kernel variants of the cpu backend, and the choice among them.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ISA_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ISA_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/backend/cpu/kernels.h"

namespace moelight {

struct CpuIsa {
  absl::string_view name;
  absl::string_view needs;  // CPU features, for messages
  bool (*supported)();      // by this machine and its operating system
  const CpuKernels* kernels;
};

// Slowest first.
absl::Span<const CpuIsa> CpuIsas();

// The row called `name`, or the fastest supported one if it is empty.
// InvalidArgument: there is no such row, or this machine lacks what it needs.
// FailedPrecondition: no row is supported.
absl::StatusOr<const CpuIsa*> ChooseCpuIsa(absl::string_view name);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ISA_H_
