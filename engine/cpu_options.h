// What the configuration says about the cores, for whoever makes a cpu backend.
#ifndef MOELIGHT_ENGINE_CPU_OPTIONS_H_
#define MOELIGHT_ENGINE_CPU_OPTIONS_H_

#include <cstdint>
#include <memory>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/engine.h"

namespace moelight {

// engine.cpu_threads, or what it is when it is 0.
int32_t NumCpuThreads(const EngineOptions& options);

// engine.cpu_threads, engine.cpu_isa and engine.cpu_pinning. With `on`, and with `auto` where the
// threads are at least four and at least all CPUs but one, threads are pinned: several daemons or
// tests on one small machine would all choose the same CPUs, while who takes nearly all of a large
// one has it for himself. InvalidArgument naming the key and what there is.
// `why_not_pinned` (may be null) gets why threads that should be pinned cannot be, else OK.
absl::StatusOr<BackendOptions> CpuBackendOptions(const EngineOptions& options,
                                                 absl::Status* why_not_pinned);

// engine.kv_format of a machine that is only simulated: bf16 for auto, as a GPU machine has it.
absl::StatusOr<DType> SimulatedKvFormat(const EngineOptions& options);

// The backend of engine.device. engine.cpu_isa is about the cpu backend, whether that is the device
// or attends beside it, and keeps no GPU from being chosen.
absl::StatusOr<std::unique_ptr<Backend>> CreateDevice(const EngineOptions& options,
                                                      const BackendOptions& backend_options);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_OPTIONS_H_
