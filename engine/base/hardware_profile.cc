#include "engine/base/hardware_profile.h"

namespace moelight {

absl::Status ValidateHardwareProfile(const HardwareProfile& /*profile*/) {
  return absl::OkStatus();
}

}  // namespace moelight
