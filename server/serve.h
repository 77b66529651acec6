// moelightd serve.
#ifndef MOELIGHT_SERVER_SERVE_H_
#define MOELIGHT_SERVER_SERVE_H_

#include <string>
#include <utility>
#include <vector>

#include "server/command_line.h"

namespace moelight {

using Environment = std::vector<std::pair<std::string, std::string>>;

// Runs the daemon until a signal or the Drain RPC; returns the exit code. With --check-config it
// only reads the configuration.
int RunServe(const CommandLine& line, const Environment& environment, const std::string& version);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_SERVE_H_
