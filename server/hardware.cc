#include "server/hardware.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "server/hardware_cache.h"
#include "server/hardware_file.h"

namespace moelight {
namespace {

std::shared_ptr<const HardwareProfile> Share(HardwareProfile profile) {
  return std::make_shared<const HardwareProfile>(std::move(profile));
}

HardwareProfile WithoutGpu(HardwareProfile profile) {
  profile.gpu = {};
  profile.link = {};
  profile.power.gpu_watts = 0;
  profile.power.link_watts = 0;
  return profile;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const HardwareProfile>> HardwareFor(const Config& config,
                                                                   Logger& logger) {
  ASSIGN_OR_RETURN(const bool has_gpu, Engine::HasDeviceMemory(config.engine));
  if (!config.hardware_profile.empty()) {
    ASSIGN_OR_RETURN(HardwareProfile profile, ReadHardwareProfile(config.hardware_profile));
    // Nothing runs on a GPU that engine.device leaves alone.
    if (!has_gpu) profile = WithoutGpu(std::move(profile));
    return Share(std::move(profile));
  }
  if (!has_gpu) return std::shared_ptr<const HardwareProfile>();
  ASSIGN_OR_RETURN(HardwareProfile profile, LoadOrProbe(config.store_path, config.engine, logger));
  return Share(std::move(profile));
}

}  // namespace moelight
