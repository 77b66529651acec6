// CommandLine: the arguments of moelightd.
#ifndef MOELIGHT_SERVER_COMMAND_LINE_H_
#define MOELIGHT_SERVER_COMMAND_LINE_H_

#include <string>
#include <vector>

#include <absl/status/statusor.h>

namespace moelight {

// What the process exits with, besides 0.
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;  // the arguments or the configuration are wrong

struct CommandLine {
  std::string command = "serve";
  std::string config = "config.yaml";
  bool check_config = false;           // serve only
  std::string output;                  // file; empty: stdout. probe only
  bool json = false;                   // doctor only
  std::vector<std::string> overrides;  // "key=value"
};

// The arguments of a command that takes a configuration; `args` are those after the program's name,
// and the command may be left out. InvalidArgument naming the argument.
absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& args);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_COMMAND_LINE_H_
