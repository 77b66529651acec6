// moelightd probe: measures this machine and prints its profile.
#ifndef MOELIGHT_SERVER_PROBE_H_
#define MOELIGHT_SERVER_PROBE_H_

#include "server/command_line.h"
#include "server/hardware_cache.h"
#include "server/serve.h"

namespace moelight {

// What is measured goes to stderr, the profile as YAML to stdout or to `line.output`. Returns the
// exit code.
int RunProbe(const CommandLine& line, const Environment& environment, const HardwareProbe& probe);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_PROBE_H_
