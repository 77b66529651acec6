#include "client/commands/command.h"
#include "client/render.h"
#include "client/wait.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

absl::StatusOr<ExitCode> Run(CommandContext& context) {
  std::ostream& out = context.environment.out;
  JobCallback print_json;
  if (context.json) {
    print_json = [&out](const v1::BatchJob& job) { out << ToLine(JobJson(job)) << std::endl; };
  }
  ASSIGN_OR_RETURN(v1::BatchJob job,
                   WaitForJob(context, context.args.positionals()[0], nullptr, print_json));
  if (!context.json) out << SummarizeJob(job) << "\n";
  return ExitCodeForJob(job);
}

}  // namespace

Command WatchCommand() {
  return {.name = "watch",
          .synopsis = "JOB",
          .summary = "follow a job until it ends",
          .details =
              "Shows rows done, tokens per second and the time that is left: a bar on a "
              "terminal, plain\nlines otherwise, the job as JSON at each change with "
              "--json. Exits with 0 if every row has an\nanswer.",
          .options = {},
          .min_positionals = 1,
          .max_positionals = 1,
          .run = Run};
}

}  // namespace moelight::client
