#include <algorithm>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include "client/commands/command.h"
#include "client/render.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

constexpr int64_t kMaxPageSize = 1000;  // of the protocol

absl::StatusOr<v1::ListBatchJobsRequest> MakeRequest(const ParsedArgs& args) {
  v1::ListBatchJobsRequest request;
  for (const std::string& name : args.GetAll("state")) {
    v1::BatchJob::State state;
    if (!v1::BatchJob::State_Parse(absl::StrCat("STATE_", absl::AsciiStrToUpper(name)), &state)) {
      return UsageError(absl::StrCat("--state ", name, " is not a state of a job"));
    }
    request.add_states(state);
  }
  return request;
}

std::vector<std::string> TableRow(const v1::BatchJob& job) {
  return {job.job_id(),
          StateName(job.state()),
          WithCommas(job.num_rows()),
          WithCommas(job.num_succeeded()),
          WithCommas(job.num_failed() + job.num_cancelled()),
          WithCommas(job.generated_tokens()),
          LocalTime(job.create_time()),
          absl::StrCat(job.priority()),
          job.client(),
          job.display_name()};
}

absl::StatusOr<ExitCode> Run(CommandContext& context) {
  ASSIGN_OR_RETURN(v1::ListBatchJobsRequest request, MakeRequest(context.args));
  ASSIGN_OR_RETURN(int64_t left, context.args.GetInt("limit", 50, 1, 1'000'000));
  std::vector<std::vector<std::string>> table = {{"JOB", "STATE", "ROWS", "ANSWERED", "FAILED",
                                                  "TOKENS", "CREATED", "PRIO", "CLIENT", "NAME"}};
  bool more = true;
  while (more && left > 0) {
    request.set_page_size(static_cast<int32_t>(std::min(left, kMaxPageSize)));
    ASSIGN_OR_RETURN(v1::ListBatchJobsResponse page,
                     context.client.List(request, context.environment.stop));
    for (const v1::BatchJob& job : page.jobs()) {
      if (context.json) {
        context.environment.out << ToLine(JobJson(job)) << "\n";
      } else {
        table.push_back(TableRow(job));
      }
    }
    left -= page.jobs_size();
    more = !page.next_page_token().empty();
    request.set_page_token(page.next_page_token());
  }
  if (context.json) return kDone;
  context.environment.out << Table(table);
  if (more) context.environment.err << "There are more jobs; see them with --limit N.\n";
  return kDone;
}

}  // namespace

Command ListCommand() {
  return {.name = "list",
          .synopsis = "[--state STATE]... [--limit N]",
          .summary = "show jobs, newest first",
          .details = "With --json one job per line.",
          .options = {{"state", '\0', "STATE", "only jobs in this state; may be repeated"},
                      {"limit", '\0', "N", "at most this many; default 50"}},
          .min_positionals = 0,
          .max_positionals = 0,
          .run = Run};
}

}  // namespace moelight::client
