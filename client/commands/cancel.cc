#include "client/commands/command.h"
#include "client/render.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

absl::StatusOr<ExitCode> Run(CommandContext& context) {
  ASSIGN_OR_RETURN(v1::BatchJob job,
                   context.client.Cancel(context.args.positionals()[0], context.environment.stop));
  std::ostream& out = context.environment.out;
  if (context.json) {
    out << ToLine(JobJson(job)) << "\n";
  } else {
    out << job.job_id() << " " << StateName(job.state()) << "\n";
  }
  return kDone;
}

}  // namespace

Command CancelCommand() {
  return {.name = "cancel",
          .synopsis = "JOB",
          .summary = "stop a job",
          .details =
              "Rows that are done keep their results; the others end with an error. A job "
              "that has ended\nstays as it is.",
          .options = {},
          .min_positionals = 1,
          .max_positionals = 1,
          .run = Run};
}

}  // namespace moelight::client
