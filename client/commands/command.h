// Command: one row of the command line's table. A new command is one file here and one row in
// cli.cc.
#ifndef MOELIGHT_CLIENT_COMMANDS_COMMAND_H_
#define MOELIGHT_CLIENT_COMMANDS_COMMAND_H_

#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "client/args.h"
#include "client/cli.h"
#include "client/client.h"
#include "client/exit_code.h"

namespace moelight::client {

struct CommandContext {
  const ParsedArgs& args;
  Environment& environment;
  Client& client;
  bool json = false;  // --json: one JSON value per line on standard output, nothing else there
};

struct Command {
  std::string name;
  std::string synopsis;  // its arguments, "JOB [-o FILE]"
  std::string summary;   // one line
  std::string details;   // paragraphs for --help; may be empty
  std::vector<OptionSpec> options;
  int min_positionals = 0;
  int max_positionals = 0;
  // An exit code, or an error that Main reports and turns into one.
  absl::StatusOr<ExitCode> (*run)(CommandContext& context);
};

Command SubmitCommand();
Command WatchCommand();
Command ResultsCommand();
Command CancelCommand();
Command ListCommand();
Command GenerateCommand();
Command InfoCommand();
Command HealthCommand();

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_COMMANDS_COMMAND_H_
