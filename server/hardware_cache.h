// The profile of this machine: measured once, then read from a file until the machine changes.
//
// Threads: none of its own; blocks for as long as the probe takes.
#ifndef MOELIGHT_SERVER_HARDWARE_CACHE_H_
#define MOELIGHT_SERVER_HARDWARE_CACHE_H_

#include <functional>
#include <string>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/base/hardware_profile.h"
#include "engine/base/logger.h"
#include "engine/engine.h"

namespace moelight {

// What measures: the engine's functions, or a test's.
struct HardwareProbe {
  using Progress = std::function<void(absl::string_view)>;
  std::function<absl::StatusOr<std::string>(const EngineOptions&)> fingerprint;
  std::function<absl::StatusOr<HardwareProfile>(const EngineOptions&, const Progress&)> measure;
};
inline HardwareProbe EngineHardwareProbe() {
  return {Engine::HardwareFingerprint, Engine::ProbeHardware};
}

// Measures, whatever has been measured before. The profile is valid and has the fingerprint.
// Internal if what was measured cannot be; otherwise the probe's own errors.
absl::StatusOr<HardwareProfile> MeasureHardware(const EngineOptions& options,
                                                const HardwareProbe& probe,
                                                const HardwareProbe::Progress& on_progress);

// Reads FOLDER/hardware-<fingerprint>.yaml, or measures and writes it. A file that cannot be used
// is logged and replaced; one that cannot be written is logged and no error, because the profile is
// there. Errors: those of MeasureHardware().
absl::StatusOr<HardwareProfile> LoadOrProbe(const std::string& folder, const EngineOptions& options,
                                            Logger& logger,
                                            const HardwareProbe& probe = EngineHardwareProbe());

}  // namespace moelight

#endif  // MOELIGHT_SERVER_HARDWARE_CACHE_H_
