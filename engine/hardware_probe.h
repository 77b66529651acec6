// The hardware probe: all that a HardwareProfile holds, measured on this machine. Implements
// Engine::ProbeHardware() and Engine::HardwareFingerprint().
//
// Threads: the caller's, which no ParallelRunner may have bound, and workers. Allocates for its own
// time. Errors: of its parts.
#ifndef MOELIGHT_ENGINE_HARDWARE_PROBE_H_
#define MOELIGHT_ENGINE_HARDWARE_PROBE_H_

#include <functional>
#include <string>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/backend/backend.h"
#include "engine/base/hardware_profile.h"
#include "engine/engine.h"
#include "engine/gpu_probe/gpu_probe.h"
#include "engine/host_probe.h"
#include "engine/link_probe.h"

namespace moelight {

struct HardwareProbeSpec {
  HostProbeSpec host;
  LinkProbeSpec link;
  GpuProbeSpec gpu;
};

// `device` is the backend of engine.device. A machine where that has no memory of its own has no
// GPU and no link.
absl::StatusOr<HardwareProfile> MeasureHardware(
    const EngineOptions& options, const HardwareProbeSpec& spec, Backend& device,
    const std::function<void(absl::string_view)>& on_progress);

// Of the machine with this device.
absl::StatusOr<std::string> FingerprintOf(const EngineOptions& options, const Backend& device);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_HARDWARE_PROBE_H_
