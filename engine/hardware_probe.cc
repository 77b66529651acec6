// Engine::ProbeHardware(): to be written.
#include "engine/engine.h"

namespace moelight {

absl::StatusOr<HardwareProfile> Engine::ProbeHardware(
    const EngineOptions& /*options*/,
    const std::function<void(absl::string_view)>& /*on_progress*/) {
  return absl::UnimplementedError("the hardware probe");
}

absl::StatusOr<std::string> Engine::HardwareFingerprint(const EngineOptions& /*options*/) {
  return absl::UnimplementedError("the hardware probe");
}

}  // namespace moelight
