// HardwareProfile as a YAML file: what the probe writes, and what describes a machine that is not
// here. Which fields there are and what they may be: engine/base/hardware_fields.h.
//
//   name: "..."
//   source: "..."
//   host:
//     memory_bytes: 16GiB                              # sizes as in config.yaml, or a plain number
//     attention:
//       - kv_format: bf16
//         group_size: 4
//         bytes_per_s: [[128, 20e9], [4096, 31.4e9]]   # a curve: [size, rate]
//
// Threads: pure functions and file access, no state.
#ifndef MOELIGHT_SERVER_HARDWARE_FILE_H_
#define MOELIGHT_SERVER_HARDWARE_FILE_H_

#include <string>

#include <absl/status/statusor.h>

#include "engine/base/hardware_profile.h"

namespace moelight {

// InvalidArgument with one line per mistake, "FILE:LINE: key: reason"; `source_name` is the FILE.
// What is returned passes ValidateHardwareProfile().
absl::StatusOr<HardwareProfile> ParseHardwareProfile(const std::string& text,
                                                     const std::string& source_name);
absl::StatusOr<HardwareProfile> ReadHardwareProfile(const std::string& path);

// Rates with six digits, everything else exactly. The same profile gives the same text.
std::string HardwareProfileToYaml(const HardwareProfile& profile);
// Whole or not at all. Unavailable if it cannot be written.
absl::Status WriteHardwareProfile(const std::string& path, const HardwareProfile& profile);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_HARDWARE_FILE_H_
