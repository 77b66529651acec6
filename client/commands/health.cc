#include <absl/strings/str_cat.h>

#include "client/commands/command.h"
#include "client/render.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

absl::StatusOr<ExitCode> Run(CommandContext& context) {
  const std::string service = context.args.Get("service").value_or("");
  absl::StatusOr<bool> serving = context.client.IsServing(service, context.environment.stop);
  if (absl::IsNotFound(serving.status())) {
    return WithHint(
        absl::NotFoundError(absl::StrCat("the server has no health for \"", service, "\"")),
        "moelightd has it for live, ready and its services by their full names.");
  }
  RETURN_IF_ERROR(serving.status());
  const char* const word = *serving ? "SERVING" : "NOT_SERVING";
  if (context.json) {
    context.environment.out << ToLine({{"service", service}, {"status", word}}) << "\n";
  } else {
    context.environment.out << word << "\n";
  }
  return *serving ? kDone : kNotServing;
}

}  // namespace

Command HealthCommand() {
  return {.name = "health",
          .synopsis = "[--service NAME]",
          .summary = "ask whether the server works; for probes of Docker and Kubernetes",
          .details =
              "Asks once, without retries: exit code 0 if it says SERVING, 1 if NOT_SERVING, "
              "3 if it cannot be reached.",
          .options = {{"service", '\0', "NAME",
                       "live (the process answers), ready (it takes work), or a service by its "
                       "full name; default: the server as a whole, which is ready"}},
          .min_positionals = 0,
          .max_positionals = 0,
          .run = Run};
}

}  // namespace moelight::client
