#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/reference/reference_backend.h"
#ifdef MOELIGHT_WITH_CUDA
#include "engine/backend/cuda/cuda_backend.h"
#endif

namespace moelight {

absl::Span<const BackendEntry> Backends() {
  static constexpr BackendEntry kBackends[] = {
#ifdef MOELIGHT_WITH_CUDA
      {"cuda", "one NVIDIA GPU, bf16 weights", /*in_auto=*/true, CreateCudaBackend},
#endif
      {"cpu", "vectorized, multi-threaded, bf16 weights", /*in_auto=*/true, CreateCpuBackend},
      {"reference", "plain fp32 loops on one thread, for tests", /*in_auto=*/false,
       CreateReferenceBackend},
  };
  return kBackends;
}

absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(absl::string_view name,
                                                       const BackendOptions& options) {
  if (options.num_threads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_threads is ", options.num_threads, ", must be at least 1"));
  }
  // With "auto", a backend that cannot run here, or not with these options, is passed over; the
  // reason that the last one gave is the answer when none can run.
  absl::Status last_error;
  for (const BackendEntry& entry : Backends()) {
    if (name != entry.name && !(name == "auto" && entry.in_auto)) continue;
    absl::StatusOr<std::unique_ptr<Backend>> backend = entry.create(options);
    last_error = backend.status();
    if (!absl::IsFailedPrecondition(last_error) && !absl::IsInvalidArgument(last_error)) {
      return backend;
    }
  }
  if (!last_error.ok()) return last_error;
  const auto append_name = [](std::string* out, const BackendEntry& entry) {
    absl::StrAppend(out, entry.name);
  };
  return absl::InvalidArgumentError(absl::StrCat("backend \"", name, "\" is unknown; there are ",
                                                 "auto, ",
                                                 absl::StrJoin(Backends(), ", ", append_name)));
}

}  // namespace moelight
