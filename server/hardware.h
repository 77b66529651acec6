// The hardware profile that a configuration leads to.
#ifndef MOELIGHT_SERVER_HARDWARE_H_
#define MOELIGHT_SERVER_HARDWARE_H_

#include <memory>

#include <absl/status/statusor.h>

#include "engine/base/hardware_profile.h"
#include "engine/base/logger.h"
#include "server/config.h"

namespace moelight {

// engine.hardware_profile if that is set, less its GPU if engine.device leads to none. Else what
// was probed before and lies in store.path; a machine with a GPU is probed now if nothing does,
// which takes under a minute. Null on one without: there is one processor with one memory, and
// nothing to choose that would be worth the wait. Errors: those of the file or of the probe.
absl::StatusOr<std::shared_ptr<const HardwareProfile>> HardwareFor(const Config& config,
                                                                   Logger& logger);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_HARDWARE_H_
