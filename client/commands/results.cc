#include <limits>
#include <memory>
#include <utility>

#include <absl/strings/str_cat.h>

#include "client/commands/command.h"
#include "client/render.h"
#include "client/result_writer.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

// The kind of the job's rows: what --url says, else what the job's label says, else chat, which is
// what most jobs are. nullopt: both in one job.
absl::StatusOr<std::optional<RowKind>> KindOfRows(const ParsedArgs& args, const v1::BatchJob& job) {
  if (const std::optional<std::string> url = args.Get("url"); url.has_value()) {
    const std::optional<RowKind> kind = RowKindFromUrl(*url);
    if (kind.has_value()) return kind;
    return UsageError(absl::StrCat("--url ", *url, " is neither ", RowUrl(RowKind::kChat), " nor ",
                                   RowUrl(RowKind::kCompletion)));
  }
  const auto label = job.labels().find(kUrlLabel);
  if (label == job.labels().end()) return RowKind::kChat;
  if (label->second == kMixedUrls) return std::nullopt;
  return RowKindFromUrl(label->second).value_or(RowKind::kChat);
}

// The model that the job was made for; for jobs of other clients the one that is served now.
absl::StatusOr<std::string> ModelName(CommandContext& context, const v1::BatchJob& job) {
  const auto label = job.labels().find(kModelLabel);
  if (label != job.labels().end()) return label->second;
  ASSIGN_OR_RETURN(v1::GetModelResponse response, context.client.Model(context.environment.stop));
  return response.model().name();
}

void PrintSummary(CommandContext& context, const v1::BatchJob& job, const ResultWriter& writer,
                  int64_t cursor) {
  const bool lines_on_stdout = context.args.Get("output").value_or("-") == "-";
  if (context.json && !lines_on_stdout) {
    context.environment.out << ToLine({{"job_id", job.job_id()},
                                       {"state", StateName(job.state())},
                                       {"num_results", writer.num_results()},
                                       {"num_failed", writer.num_failed()},
                                       {"next_cursor", cursor}})
                            << "\n";
    return;
  }
  if (context.json) return;
  if (!HasEnded(job.state())) {
    context.environment.err << absl::StrCat(
        "The job is ", StateName(job.state()),
        "; these are the results so far. Go on with `moelight results ", job.job_id(), " --cursor ",
        cursor, "`, or wait for all with --follow.\n");
  }
}

absl::StatusOr<ExitCode> Run(CommandContext& context) {
  const std::string& job_id = context.args.positionals()[0];
  const std::stop_token& stop = context.environment.stop;
  ReadOptions options;
  ASSIGN_OR_RETURN(options.cursor,
                   context.args.GetInt("cursor", 0, 0, std::numeric_limits<int64_t>::max()));
  options.follow = context.args.Has("follow");
  ASSIGN_OR_RETURN(v1::BatchJob job, context.client.Get(job_id, stop));
  ASSIGN_OR_RETURN(const std::optional<RowKind> kind, KindOfRows(context.args, job));
  ASSIGN_OR_RETURN(std::string model, ModelName(context, job));

  absl::StatusOr<std::unique_ptr<OutputFile>> file =
      OutputFile::Open(context.args.Get("output").value_or("-"), context.environment.out);
  RETURN_IF_ERROR(LocalError(file.status()));
  ResultWriter writer(**file, ResultFormatter(job, std::move(model)),
                      [&kind](int64_t) { return kind; });
  ASSIGN_OR_RETURN(const int64_t cursor,
                   context.client.ReadResults(
                       job_id, options,
                       [&writer](const v1::ReadBatchResultsResponse& response) {
                         return writer.Write(response);
                       },
                       stop));
  RETURN_IF_ERROR(LocalError((*file)->Commit()));
  // A job that ended after the read began may have results that were not read; then the state that
  // was seen before is the honest one.
  if (options.follow) {
    ASSIGN_OR_RETURN(job, context.client.Get(job_id, stop));
  }
  PrintSummary(context, job, writer, cursor);
  return writer.num_failed() == 0 ? kDone : kRowsFailed;
}

}  // namespace

Command ResultsCommand() {
  return {.name = "results",
          .synopsis = "JOB [-o FILE] [--follow] [--cursor N]",
          .summary = "write a job's results as OpenAI Batch output lines",
          .details =
              "Results come in the order in which rows finished. FILE appears once all are "
              "written.",
          .options = {{"output", 'o', "FILE", "write to FILE; default standard output"},
                      {"follow", 'f', "", "wait for further results until the job has ended"},
                      {"cursor", '\0', "N", "begin behind results read before; default 0"},
                      {"url", '\0', "URL",
                       "write rows as answers of this URL; default what the job was submitted as"}},
          .min_positionals = 1,
          .max_positionals = 1,
          .run = Run};
}

}  // namespace moelight::client
