#include "engine/cpu_options.h"

#include <algorithm>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/backend/cpu/isa.h"
#include "engine/backend/kv_format.h"
#include "engine/base/cpu_placement.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Fewer, and the machine or the share of it is small enough that others work there as well.
constexpr int32_t kMinAutoPinnedThreads = 4;

// Whether threads should be pinned; whether they can be is another question.
absl::StatusOr<bool> WantsPinning(const EngineOptions& options) {
  if (options.cpu_pinning == "on") return true;
  if (options.cpu_pinning == "off") return false;
  if (options.cpu_pinning != "auto") {
    return absl::InvalidArgumentError(absl::StrCat("engine.cpu_pinning: \"", options.cpu_pinning,
                                                   "\" is not one of auto, on, off"));
  }
  const int32_t num_threads = NumCpuThreads(options);
  const absl::StatusOr<std::vector<AllowedCpu>> allowed = AllowedCpus();
  return allowed.ok() && num_threads >= kMinAutoPinnedThreads &&
         num_threads >= static_cast<int32_t>(allowed->size()) - 1 &&
         num_threads <= static_cast<int32_t>(allowed->size());
}

}  // namespace

int32_t NumCpuThreads(const EngineOptions& options) {
  if (options.cpu_threads > 0) return options.cpu_threads;
  // One core is left for RPCs, tokenization and the store.
  return std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()) - 1);
}

absl::StatusOr<BackendOptions> CpuBackendOptions(const EngineOptions& options,
                                                 absl::Status* why_not_pinned) {
  BackendOptions backend_options;
  backend_options.num_threads = NumCpuThreads(options);
  if (options.cpu_isa != "auto") {
    const absl::Status chosen = ChooseCpuIsa(options.cpu_isa).status();
    if (!chosen.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("engine.cpu_isa: ", chosen.message()));
    }
    backend_options.isa = options.cpu_isa;
  }
  if (options.kv_format != "auto") {
    const absl::Status known = ParseKvFormat(options.kv_format).status();
    if (!known.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("engine.kv_format: ", known.message()));
    }
    backend_options.kv_format = options.kv_format;
  }
  ASSIGN_OR_RETURN(const bool wants_pinning, WantsPinning(options));
  // One thread alone runs on the caller, which is never bound.
  if (wants_pinning && backend_options.num_threads > 1) {
    const absl::Status can_pin = CheckCanPin(backend_options.num_threads);
    backend_options.pin_threads = can_pin.ok();
    if (why_not_pinned != nullptr) *why_not_pinned = can_pin;
  }
  return backend_options;
}

absl::StatusOr<DType> SimulatedKvFormat(const EngineOptions& options) {
  if (options.kv_format == "auto") return DType::kBF16;
  return ParseKvFormat(options.kv_format);
}

absl::StatusOr<std::unique_ptr<Backend>> CreateDevice(const EngineOptions& options,
                                                      const BackendOptions& backend_options) {
  // The GPU keeps K and V in its own format; where that is not the cache's, it does not attend.
  BackendOptions without_isa = backend_options;
  without_isa.isa.clear();
  without_isa.kv_format.clear();
  if (options.device == "cuda") return CreateBackend(options.device, without_isa);
  // A backend that knows no variants would be passed over.
  if (options.device == "auto" &&
      (!backend_options.isa.empty() || !backend_options.kv_format.empty())) {
    absl::StatusOr<std::unique_ptr<Backend>> gpu = CreateBackend("cuda", without_isa);
    if (gpu.ok()) return gpu;
  }
  return CreateBackend(options.device, backend_options);
}

}  // namespace moelight
