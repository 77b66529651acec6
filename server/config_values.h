// Values as people write them in config.yaml: sizes ("16GiB"), durations ("7d"), addresses.
//
// Pure functions, thread-safe. Errors say what is wrong with the value; the caller names the key.
#ifndef MOELIGHT_SERVER_CONFIG_VALUES_H_
#define MOELIGHT_SERVER_CONFIG_VALUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight {

absl::StatusOr<bool> ParseBool(absl::string_view text);         // true, false
absl::StatusOr<int64_t> ParseInteger(absl::string_view text);   // 4096
absl::StatusOr<int64_t> ParseSize(absl::string_view text);      // 16GiB, 512KiB, 100B, 0 -> bytes
absl::StatusOr<int64_t> ParseDuration(absl::string_view text);  // 30s, 15m, 12h, 7d, 0 -> seconds

// The shortest text that parses to the same value.
std::string FormatSize(int64_t bytes);
std::string FormatDuration(int64_t seconds);

struct HostPort {
  std::string host;  // without brackets
  int port = 0;
};
// "127.0.0.1:50051", "[::1]:50051", "localhost:0". The port is 0 to 65535.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view text);
// Whether only this machine can reach the address: localhost, 127.0.0.0/8, ::1.
bool IsLoopback(const HostPort& address);

// The candidate most like `name`, for "did you mean"; empty if none is near.
std::string NearestName(absl::string_view name, const std::vector<std::string>& candidates);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CONFIG_VALUES_H_
