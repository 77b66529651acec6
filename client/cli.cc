#include "client/cli.h"

#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "client/args.h"
#include "client/client.h"
#include "client/commands/command.h"
#include "client/exit_code.h"
#include "client/render.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

std::vector<Command> Commands() {
  return {SubmitCommand(), WatchCommand(),    ResultsCommand(), CancelCommand(),
          ListCommand(),   GenerateCommand(), InfoCommand(),    HealthCommand()};
}

std::vector<OptionSpec> GlobalOptions() {
  return {
      {"server", '\0', "HOST:PORT",
       absl::StrCat("where moelightd listens; default MOELIGHT_SERVER, then ", kDefaultServer)},
      {"admin-server", '\0', "HOST:PORT",
       absl::StrCat("its listener for info and health; default MOELIGHT_ADMIN_SERVER, then ",
                    kDefaultAdminServer)},
      {"api-key-file", '\0', "FILE",
       "send the API key that the file holds; default: that in MOELIGHT_API_KEY, if any"},
      {"json", '\0', "", "machine-readable output: one JSON value per line, errors too"},
      {"timeout", '\0', "SECONDS",
       "for one call, and for how long an outage of the server is ridden out; default 30 and 60, "
       "but 3 for the first contact"},
      {"tls-ca", '\0', "FILE", "use TLS and trust these roots (PEM)"},
      {"tls-cert", '\0', "FILE", "use TLS with this client certificate (PEM)"},
      {"tls-key", '\0', "FILE", "the certificate's key (PEM)"},
      {"help", 'h', "", "this help, or that of a command"},
      {"version", '\0', "", "the version of this program"},
  };
}

std::string GeneralHelp(const std::vector<Command>& commands) {
  std::string text =
      "moelight hands batch jobs to a moelightd server and brings the answers back.\n\n"
      "usage: moelight [OPTIONS] COMMAND [ARGUMENTS]\n\ncommands:\n";
  for (const Command& command : commands) {
    absl::StrAppendFormat(&text, "  %-9s %s\n", command.name, command.summary);
  }
  absl::StrAppend(
      &text, "\noptions:\n", DescribeOptions(GlobalOptions()),
      "\nexit codes: 0 done, 1 some rows failed or not serving, 2 usage or local file, 3 server "
      "unreachable,\n            4 refused, 5 not found, 130 interrupted\n\n"
      "`moelight COMMAND --help` says more about a command.\n");
  return text;
}

std::string CommandHelp(const Command& command) {
  std::string text = absl::StrCat("usage: moelight ", command.name, " ", command.synopsis, "\n\n",
                                  command.summary, "\n");
  if (!command.details.empty()) absl::StrAppend(&text, "\n", command.details, "\n");
  if (!command.options.empty()) {
    absl::StrAppend(&text, "\noptions:\n", DescribeOptions(command.options));
  }
  absl::StrAppend(&text, "\nglobal options:\n", DescribeOptions(GlobalOptions()));
  return text;
}

// Index of the first argument that is neither an option nor an option's value; args.size() if none.
size_t FindCommandName(const std::vector<std::string>& args) {
  const std::vector<OptionSpec> specs = GlobalOptions();
  size_t i = 0;
  while (i < args.size() && args[i].size() > 1 && args[i][0] == '-') {
    bool takes_next = false;
    for (const OptionSpec& spec : specs) {
      takes_next |= !spec.placeholder.empty() && args[i] == absl::StrCat("--", spec.name);
    }
    i += takes_next ? 2 : 1;
  }
  return std::min(i, args.size());
}

// The content of the file that an option names; empty without the option.
absl::StatusOr<std::string> ReadOptionFile(const ParsedArgs& args, absl::string_view option) {
  const std::optional<std::string> path = args.Get(option);
  if (!path.has_value()) return std::string();
  std::ifstream file(*path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (text.empty()) {
    return LocalError(
        absl::FailedPreconditionError(absl::StrCat("cannot read --", option, " ", *path)));
  }
  return text;
}

absl::StatusOr<ClientOptions> MakeClientOptions(const ParsedArgs& args,
                                                const Environment& environment) {
  ClientOptions options;
  if (!environment.default_server.empty()) options.server = environment.default_server;
  options.server = args.Get("server").value_or(options.server);
  if (!environment.default_admin_server.empty()) {
    options.admin_server = environment.default_admin_server;
  }
  options.admin_server = args.Get("admin-server").value_or(options.admin_server);
  options.api_key = environment.api_key;
  if (args.Has("api-key-file")) {
    ASSIGN_OR_RETURN(options.api_key, ReadOptionFile(args, "api-key-file"));
    absl::StripAsciiWhitespace(&options.api_key);
  }
  if (args.Has("timeout")) {
    constexpr double kMaxTimeoutSeconds = 7 * 24 * 3600;
    ASSIGN_OR_RETURN(const double seconds, args.GetDouble("timeout", 0, 0.001, kMaxTimeoutSeconds));
    options.call_timeout = absl::Seconds(seconds);
    options.retry.budget = absl::Seconds(seconds);
    options.retry.first_contact_budget = absl::Seconds(seconds);
  }
  if (args.Has("tls-ca") || args.Has("tls-cert") || args.Has("tls-key")) {
    TlsOptions& tls = options.tls.emplace();
    ASSIGN_OR_RETURN(tls.ca_pem, ReadOptionFile(args, "tls-ca"));
    ASSIGN_OR_RETURN(tls.cert_pem, ReadOptionFile(args, "tls-cert"));
    ASSIGN_OR_RETURN(tls.key_pem, ReadOptionFile(args, "tls-key"));
  }
  return options;
}

absl::Status CheckPositionals(const Command& command, const ParsedArgs& args) {
  const int count = static_cast<int>(args.positionals().size());
  if (count < command.min_positionals) {
    return UsageError(
        absl::StrCat("missing argument; usage: moelight ", command.name, " ", command.synopsis));
  }
  if (count > command.max_positionals) {
    return UsageError(
        absl::StrCat("unexpected argument \"", args.positionals()[command.max_positionals], "\""));
  }
  return absl::OkStatus();
}

// One invocation. Its fields are known step by step and are what an error report needs.
class Invocation {
 public:
  explicit Invocation(Environment& environment) : environment_(environment) {}

  int Run(const std::vector<std::string>& args) {
    absl::StatusOr<ExitCode> code = RunCommand(args);
    return code.ok() ? *code : Report(code.status());
  }

 private:
  absl::StatusOr<ExitCode> RunCommand(std::vector<std::string> args) {
    const std::vector<Command> commands = Commands();
    const size_t name_index = FindCommandName(args);
    const Command* command = nullptr;
    bool asked_for_help = false;
    if (name_index < args.size()) {
      for (const Command& row : commands) {
        if (row.name == args[name_index]) command = &row;
      }
      asked_for_help = args[name_index] == "help";
      if (command == nullptr && !asked_for_help) {
        return UsageError(absl::StrCat("unknown command \"", args[name_index], "\""));
      }
      args.erase(args.begin() + name_index);
    }
    std::vector<OptionSpec> specs = GlobalOptions();
    if (command != nullptr) {
      help_command_ = absl::StrCat("moelight ", command->name, " --help");
      specs.insert(specs.end(), command->options.begin(), command->options.end());
    }
    ASSIGN_OR_RETURN(const ParsedArgs parsed, ParseArgs(specs, args));
    json_ = parsed.Has("json");
    if (parsed.Has("version")) {
      environment_.out << "moelight " << MOELIGHT_VERSION << "\n";
      return kDone;
    }
    asked_for_help |= parsed.Has("help");
    if (command == nullptr || asked_for_help) {
      (asked_for_help ? environment_.out : environment_.err)
          << (command == nullptr ? GeneralHelp(commands) : CommandHelp(*command));
      return asked_for_help ? kDone : kUsage;
    }
    RETURN_IF_ERROR(CheckPositionals(*command, parsed));
    return RunWithClient(*command, parsed);
  }

  absl::StatusOr<ExitCode> RunWithClient(const Command& command, const ParsedArgs& args) {
    ASSIGN_OR_RETURN(ClientOptions options, MakeClientOptions(args, environment_));
    server_ = options.server;
    absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(std::move(options));
    if (!client.ok()) return UsageError(client.status().message());
    CommandContext context{args, environment_, **client, json_};
    return command.run(context);
  }

  ExitCode Report(const absl::Status& status) {
    const ExitCode code = ExitCodeFor(status);
    std::string hint = HintFor(status, server_);
    // A local file's error carries no payload that asks for the help text.
    if (hint.empty() && code == kUsage && absl::IsInvalidArgument(status)) {
      hint = absl::StrCat("See `", help_command_, "`.");
    }
    if (json_) {
      environment_.err << ToLine({{"error",
                                   {{"code", absl::StatusCodeToString(status.code())},
                                    {"message", status.message()},
                                    {"hint", hint},
                                    {"exit_code", static_cast<int>(code)}}}})
                       << "\n";
      return code;
    }
    environment_.err << "moelight: " << Subject(status) << status.message() << "\n";
    if (!hint.empty()) environment_.err << hint << "\n";
    return code;
  }

  // Says who the message is about where the message itself does not.
  std::string Subject(const absl::Status& status) const {
    if (absl::IsUnavailable(status)) return absl::StrCat("cannot reach ", server_, ": ");
    if (absl::IsDeadlineExceeded(status)) return absl::StrCat("no answer from ", server_, ": ");
    return "";
  }

  Environment& environment_;
  bool json_ = false;
  std::string server_;
  std::string help_command_ = "moelight --help";
};

}  // namespace

int Main(const std::vector<std::string>& args, Environment& environment) {
  return Invocation(environment).Run(args);
}

}  // namespace moelight::client
