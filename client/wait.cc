#include "client/wait.h"

#include <stop_token>
#include <thread>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "client/progress.h"
#include "client/render.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

// Reads the results on this thread while another follows the job's progress.
absl::Status ReadAndWatch(CommandContext& context, const std::string& job_id, ResultWriter& writer,
                          const JobCallback& on_update) {
  std::stop_source stop_watching;
  std::stop_callback forward(context.environment.stop,
                             [&stop_watching]() { stop_watching.request_stop(); });
  std::jthread watcher([&]() {
    // Progress is a courtesy: if watching fails, reading fails as well and says why.
    (void)context.client.Watch(job_id, on_update, stop_watching.get_token());
  });
  const absl::Status status =
      context.client
          .ReadResults(
              job_id, {.cursor = 0, .follow = true},
              [&writer](const v1::ReadBatchResultsResponse& r) { return writer.Write(r); },
              context.environment.stop)
          .status();
  stop_watching.request_stop();
  return status;
}

absl::StatusOr<v1::BatchJob> Follow(CommandContext& context, const std::string& job_id,
                                    ResultWriter* writer, const JobCallback& on_update) {
  if (writer == nullptr) {
    return context.client.Watch(job_id, on_update, context.environment.stop);
  }
  RETURN_IF_ERROR(ReadAndWatch(context, job_id, *writer, on_update));
  ASSIGN_OR_RETURN(v1::BatchJob job, context.client.Get(job_id, context.environment.stop));
  on_update(job);  // the watcher may have been stopped before the last change
  return job;
}

}  // namespace

absl::StatusOr<v1::BatchJob> WaitForJob(CommandContext& context, const std::string& job_id,
                                        ResultWriter* writer, const JobCallback& on_update) {
  const Environment& environment = context.environment;
  Progress progress(environment.err,
                    {.terminal = environment.err_is_terminal, .columns = environment.columns});
  absl::StatusOr<v1::BatchJob> job =
      Follow(context, job_id, writer, [&](const v1::BatchJob& update) {
        if (on_update) {
          on_update(update);
        } else {
          progress.Update(update, absl::Now());
        }
      });
  progress.Finish();
  if (job.ok() || !absl::IsCancelled(job.status()) || !environment.stop.stop_requested()) {
    return job;
  }
  return WithHint(job.status(),
                  absl::StrCat("The job goes on without you. To follow it: `moelight watch ",
                               job_id, "`; for its answers: `moelight results ", job_id,
                               " --follow -o ", context.args.Get("output").value_or("OUT"), "`."));
}

ExitCode ExitCodeForJob(const v1::BatchJob& job) {
  return job.state() == v1::BatchJob::STATE_SUCCEEDED && job.num_failed() == 0 ? kDone
                                                                               : kRowsFailed;
}

std::string SummarizeJob(const v1::BatchJob& job) {
  std::string text =
      absl::StrCat(job.job_id(), " ", StateName(job.state()), ": ", WithCommas(job.num_succeeded()),
                   " of ", WithCommas(job.num_rows()), " rows answered");
  if (job.num_failed() > 0) absl::StrAppend(&text, ", ", WithCommas(job.num_failed()), " failed");
  if (job.num_cancelled() > 0) {
    absl::StrAppend(&text, ", ", WithCommas(job.num_cancelled()), " cancelled");
  }
  absl::StrAppend(&text, "; ", WithCommas(job.generated_tokens()), " tokens");
  if (job.has_start_time() && job.has_end_time()) {
    absl::StrAppend(
        &text, " in ",
        ClockTime(absl::Seconds(job.end_time().seconds() - job.start_time().seconds())));
  }
  if (job.shared_prompt_tokens() > 0) {
    absl::StrAppend(&text, "; ", WithCommas(job.shared_prompt_tokens()), " of ",
                    WithCommas(job.prompt_tokens()), " prompt tokens shared");
  }
  if (job.has_error()) absl::StrAppend(&text, "; ", job.error().message());
  return text;
}

}  // namespace moelight::client
