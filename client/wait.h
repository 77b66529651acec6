// Waiting for a job: its progress on standard error and, if asked for, its results into a file.
#ifndef MOELIGHT_CLIENT_WAIT_H_
#define MOELIGHT_CLIENT_WAIT_H_

#include <functional>
#include <string>

#include <absl/status/statusor.h>

#include "client/commands/command.h"
#include "client/result_writer.h"
#include "moelight/v1/batch_job.pb.h"

namespace moelight::client {

using JobCallback = std::function<void(const v1::BatchJob&)>;

// Blocks until the job has ended and, with `writer`, all its results are written. `on_update`,
// which may be empty, is called with each state instead of drawing progress; with `writer`, on
// another thread. Errors: those of the client and the writer; Cancelled on Ctrl-C, with a hint on
// how to go on.
absl::StatusOr<v1::BatchJob> WaitForJob(CommandContext& context, const std::string& job_id,
                                        ResultWriter* writer, const JobCallback& on_update);

// For --wait and watch: whether every row has an answer.
ExitCode ExitCodeForJob(const v1::BatchJob& job);
// "job-x SUCCEEDED: 98 of 100 rows answered, 2 failed; 12,345 tokens in 0:42".
std::string SummarizeJob(const v1::BatchJob& job);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_WAIT_H_
