#include "server/command_line.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

namespace moelight {

absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& args) {
  CommandLine line;
  size_t i = 0;
  if (!args.empty() && !absl::StartsWith(args[0], "-")) line.command = args[i++];
  for (; i < args.size(); ++i) {
    // "--name=value" or "--name value".
    absl::string_view name = args[i];
    std::string value;
    const size_t equals = name.find('=');
    const bool has_value = equals != absl::string_view::npos;
    if (has_value) {
      value = std::string(name.substr(equals + 1));
      name = name.substr(0, equals);
    }
    if (name == "--check-config" && !has_value && line.command == "serve") {
      line.check_config = true;
      continue;
    }
    if (name == "--json" && !has_value && line.command == "doctor") {
      line.json = true;
      continue;
    }
    const bool is_output = name == "-o" && line.command == "probe";
    if (name != "--config" && name != "--set" && !is_output) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown argument \"", args[i], "\" of ", line.command));
    }
    if (!has_value) {
      if (i + 1 == args.size()) {
        return absl::InvalidArgumentError(absl::StrCat(name, " needs a value"));
      }
      value = args[++i];
    }
    if (is_output) {
      line.output = value;
    } else if (name == "--config") {
      line.config = value;
    } else {
      line.overrides.push_back(value);
    }
  }
  return line;
}

}  // namespace moelight
