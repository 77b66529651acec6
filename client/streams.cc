// The server-streaming calls of Client: Watch, ReadResults, Generate.
#include <utility>

#include "client/client.h"
#include "client/connection.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

// Reads a stream to its end. `on_message` returns an error to end it; that error is the result
// then.
template <typename Message, typename OnMessage>
absl::Status Drain(Connection& connection, CallContext& context,
                   grpc::ClientReaderInterface<Message>& reader, const OnMessage& on_message) {
  Message message;
  absl::Status outcome = absl::OkStatus();
  while (outcome.ok() && reader.Read(&message)) {
    connection.NoteReached();
    outcome = on_message(message);
    if (!outcome.ok()) context.get()->TryCancel();
  }
  const absl::Status finished = connection.Conclude(reader.Finish());
  return outcome.ok() ? finished : outcome;
}

// One stream of results; moves `cursor` on with each message and counts the results.
absl::Status ReadOnce(Connection& connection, const std::string& job_id, bool follow,
                      int64_t& cursor, const Client::ResultsCallback& on_results, RetryLoop& retry,
                      const std::stop_token& stop) {
  v1::ReadBatchResultsRequest request;
  request.set_job_id(job_id);
  request.set_cursor(cursor);
  request.set_follow(follow);
  CallContext context(stop);
  auto reader = connection.jobs().ReadBatchResults(context.get(), request);
  return Drain(connection, context, *reader,
               [&](const v1::ReadBatchResultsResponse& response) -> absl::Status {
                 retry.NoteProgress();
                 cursor = response.next_cursor();
                 return on_results(response);
               });
}

// A callback's own error must end the read even if its code is UNAVAILABLE; it is kept apart from
// the errors of the connection.
struct GuardedCallback {
  const Client::ResultsCallback& callback;
  absl::Status error;

  absl::Status operator()(const v1::ReadBatchResultsResponse& response) {
    error = callback(response);
    return error.ok() ? error : absl::AbortedError("ended by the caller");
  }
};

}  // namespace

absl::StatusOr<v1::BatchJob> Client::Watch(
    const std::string& job_id, const std::function<void(const v1::BatchJob&)>& on_update,
    std::stop_token stop) {
  v1::WatchBatchJobRequest request;
  request.set_job_id(job_id);
  RetryLoop retry = connection_->NewRetryLoop(stop);
  while (true) {
    v1::BatchJob job;
    CallContext context(stop);
    auto reader = connection_->jobs().WatchBatchJob(context.get(), request);
    absl::Status status = Drain(*connection_, context, *reader,
                                [&](v1::WatchBatchJobResponse& response) -> absl::Status {
                                  retry.NoteProgress();
                                  job.Swap(response.mutable_job());
                                  on_update(job);
                                  return absl::OkStatus();
                                });
    if (status.ok()) {
      if (HasEnded(job.state())) return job;
      status = absl::UnavailableError("the server ended the watch before the job ended");
    }
    RETURN_IF_ERROR(retry.BeforeRetry(status));
  }
}

absl::StatusOr<int64_t> Client::ReadResults(const std::string& job_id, const ReadOptions& options,
                                            const ResultsCallback& on_results,
                                            std::stop_token stop) {
  int64_t cursor = options.cursor;
  bool follow = options.follow;
  RetryLoop retry = connection_->NewRetryLoop(stop);
  GuardedCallback guarded{on_results, absl::OkStatus()};
  while (true) {
    absl::Status status =
        ReadOnce(*connection_, job_id, follow, cursor, std::ref(guarded), retry, stop);
    RETURN_IF_ERROR(guarded.error);
    if (status.ok() && !follow) return cursor;
    if (status.ok()) {
      // A server that shuts down may end the stream in order. Only the job's state says that no
      // further result will come, and then those behind the cursor are still to be read.
      ASSIGN_OR_RETURN(v1::BatchJob job, Get(job_id, stop));
      if (HasEnded(job.state())) {
        follow = false;
        continue;
      }
      status = absl::UnavailableError("the server ended the results before the job ended");
    }
    RETURN_IF_ERROR(retry.BeforeRetry(status));
  }
}

absl::StatusOr<v1::GenerateResponse::Finished> Client::Generate(
    const v1::GenerateRequest& request,
    const std::function<void(const v1::GenerateResponse::Delta&)>& on_delta, std::stop_token stop) {
  RetryLoop retry = connection_->NewRetryLoop(stop);
  while (true) {
    bool started = false;
    bool finished = false;
    v1::GenerateResponse::Finished result;
    CallContext context(stop);
    auto reader = connection_->inference().Generate(context.get(), request);
    const absl::Status status =
        Drain(*connection_, context, *reader, [&](v1::GenerateResponse& response) -> absl::Status {
          if (response.has_delta()) {
            started = true;
            on_delta(response.delta());
          } else if (response.has_finished()) {
            finished = true;
            result.Swap(response.mutable_finished());
          }
          return absl::OkStatus();
        });
    if (status.ok() && finished) return result;
    if (status.ok()) return absl::InternalError("the answer ended without its last message");
    if (stop.stop_requested()) return absl::CancelledError("interrupted");
    if (started) return status;
    RETURN_IF_ERROR(retry.BeforeRetry(status));
  }
}

}  // namespace moelight::client
