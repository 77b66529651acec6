// Engine::ProbeAttention() and ProbeExperts(): the probes of cpu_probe/ on the engine's threads.
#include <memory>

#include <absl/strings/str_cat.h>

#include "engine/backend/backend.h"
#include "engine/base/status_macros.h"
#include "engine/cpu_options.h"
#include "engine/cpu_probe/attention_probe.h"
#include "engine/cpu_probe/copy_load.h"
#include "engine/cpu_probe/expert_probe.h"
#include "engine/engine.h"

namespace moelight {
namespace {

// What a probe needs besides its spec; in the order in which they depend on each other.
struct ProbeParts {
  CpuProbeOptions options;
  std::unique_ptr<Backend> gpu;      // null: nothing is copied
  std::unique_ptr<CopyLoad> copies;  // null: nothing is copied
};

absl::StatusOr<ProbeParts> MakeProbeParts(const EngineOptions& options,
                                          const KernelProbeOptions& probe) {
  ProbeParts parts;
  ASSIGN_OR_RETURN(const BackendOptions backend_options,
                   CpuBackendOptions(options, /*why_not_pinned=*/nullptr));
  parts.options.threads = {backend_options.num_threads, backend_options.pin_threads};
  parts.options.isa = probe.isa;
  parts.options.memory_bytes = probe.memory_bytes;
  if (!probe.beside_copy) return parts;
  absl::StatusOr<std::unique_ptr<Backend>> gpu = CreateBackend("cuda", BackendOptions());
  if (!gpu.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("copies to a GPU need the cuda backend: ", gpu.status().message()));
  }
  parts.gpu = *std::move(gpu);
  ASSIGN_OR_RETURN(parts.copies, CopyLoad::Create(*parts.gpu));
  return parts;
}

}  // namespace

absl::StatusOr<AttentionRates> Engine::ProbeAttention(
    const EngineOptions& options, const AttentionProbeSpec& spec, const KernelProbeOptions& probe,
    const std::function<void(const AttentionRate&)>& on_row) {
  ASSIGN_OR_RETURN(const ProbeParts parts, MakeProbeParts(options, probe));
  return MeasureAttention(spec, parts.options, parts.copies.get(), on_row);
}

absl::StatusOr<ExpertRates> Engine::ProbeExperts(
    const EngineOptions& options, const ExpertProbeSpec& spec, const KernelProbeOptions& probe,
    const std::function<void(const ExpertRate&)>& on_row) {
  ASSIGN_OR_RETURN(const ProbeParts parts, MakeProbeParts(options, probe));
  return MeasureExperts(spec, parts.options, parts.copies.get(), on_row);
}

}  // namespace moelight
