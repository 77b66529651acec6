#include "server/batch_job_service.h"

#include <string>
#include <utility>

#include <google/protobuf/util/time_util.h>

#include "server/append_call.h"
#include "server/convert.h"
#include "server/results_call.h"
#include "server/watch_call.h"

namespace moelight {
namespace {

// Ends a call that changes jobs, and writes its line in the log.
void FinishChange(Logger& logger, const char* event, grpc::CallbackServerContext* context,
                  const std::string& job_id, const absl::Status& status,
                  grpc::ServerUnaryReactor* reactor) {
  logger.Info(event, {{"peer", context->peer()},
                      {"job_id", job_id},
                      {"code", absl::StatusCodeToString(status.code())}});
  reactor->Finish(ToGrpcStatus(status));
}

void WarnIfUnreachable(Logger& logger, const v1::BatchJob& job) {
  if (!job.deadline_unreachable()) return;
  using google::protobuf::util::TimeUtil;
  logger.Warning("deadline_unreachable",
                 {{"job_id", job.job_id()},
                  {"expire_time", TimeUtil::ToString(job.expire_time())},
                  {"estimated_end_time", TimeUtil::ToString(job.estimated_end_time())}});
}

// A store callback that puts the job into the response and ends the call. The context and the
// response live until Finish.
template <typename Response>
StoreDone<v1::BatchJob> ReplyWithJob(Logger& logger, const char* event,
                                     grpc::CallbackServerContext* context, std::string job_id,
                                     Response* response, grpc::ServerUnaryReactor* reactor) {
  return [&logger, event, context, job_id = std::move(job_id), response,
          reactor](absl::StatusOr<v1::BatchJob> job) {
    if (job.ok()) *response->mutable_job() = *std::move(job);
    FinishChange(logger, event, context, job_id.empty() ? response->job().job_id() : job_id,
                 job.status(), reactor);
  };
}

}  // namespace

grpc::ServerUnaryReactor* BatchJobServiceImpl::CreateBatchJob(
    grpc::CallbackServerContext* context, const v1::CreateBatchJobRequest* request,
    v1::CreateBatchJobResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<Engine*> engine = options_.admission.Admit();
  absl::Status status = engine.status();
  if (status.ok()) {
    status = options_.admission.CheckJob(*request, (*engine)->model().vocab_size);
    options_.admission.CountRejected(status);
  }
  if (!status.ok()) {
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }
  options_.store.Create(
      *request, [this, context, response, reactor](absl::StatusOr<v1::BatchJob> job) {
        options_.admission.CountRejected(job.status());
        ReplyWithJob(options_.logger, "create_job", context, "", response, reactor)(std::move(job));
      });
  return reactor;
}

grpc::ServerReadReactor<grpc::ByteBuffer>* BatchJobServiceImpl::AppendBatchRequests(
    grpc::CallbackServerContext* context, grpc::ByteBuffer* response) {
  return AppendCall::Start(
      {options_.store, options_.admission, options_.logger, options_.append_messages}, context,
      response);
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::SealBatchJob(grpc::CallbackServerContext* context,
                                                            const v1::SealBatchJobRequest* request,
                                                            v1::SealBatchJobResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (absl::Status status = options_.admission.Admit().status(); !status.ok()) {
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }
  if (request->has_expected_rows() && request->expected_rows() < 0) {
    reactor->Finish(ToGrpcStatus(absl::InvalidArgumentError("expected_rows: negative")));
    return reactor;
  }
  options_.store.Seal(request->job_id(),
                      request->has_expected_rows() ? request->expected_rows() : -1,
                      options_.throughput.tokens_per_s(),
                      [this, context, job_id = request->job_id(), response,
                       reactor](absl::StatusOr<v1::BatchJob> job) {
                        if (job.ok()) WarnIfUnreachable(options_.logger, *job);
                        ReplyWithJob(options_.logger, "seal_job", context, job_id, response,
                                     reactor)(std::move(job));
                      });
  return reactor;
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::GetBatchJob(grpc::CallbackServerContext* context,
                                                           const v1::GetBatchJobRequest* request,
                                                           v1::GetBatchJobResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<v1::BatchJob> job = options_.store.Get(request->job_id());
  if (job.ok()) *response->mutable_job() = *std::move(job);
  reactor->Finish(ToGrpcStatus(job.status()));
  return reactor;
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::ListBatchJobs(
    grpc::CallbackServerContext* context, const v1::ListBatchJobsRequest* request,
    v1::ListBatchJobsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<v1::ListBatchJobsResponse> jobs = options_.store.List(*request);
  if (jobs.ok()) *response = *std::move(jobs);
  reactor->Finish(ToGrpcStatus(jobs.status()));
  return reactor;
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::CancelBatchJob(
    grpc::CallbackServerContext* context, const v1::CancelBatchJobRequest* request,
    v1::CancelBatchJobResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  options_.store.Cancel(request->job_id(), ReplyWithJob(options_.logger, "cancel_job", context,
                                                        request->job_id(), response, reactor));
  return reactor;
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::DeleteBatchJob(
    grpc::CallbackServerContext* context, const v1::DeleteBatchJobRequest* request,
    v1::DeleteBatchJobResponse* /*response*/) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  options_.store.Delete(request->job_id(), [this, context, reactor, job_id = request->job_id()](
                                               const absl::StatusOr<bool>& deleted) {
    FinishChange(options_.logger, "delete_job", context, job_id, deleted.status(), reactor);
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::WatchBatchJobResponse>* BatchJobServiceImpl::WatchBatchJob(
    grpc::CallbackServerContext* /*context*/, const v1::WatchBatchJobRequest* request) {
  return WatchCall::Start(options_.store, *request);
}

grpc::ServerWriteReactor<v1::ReadBatchResultsResponse>* BatchJobServiceImpl::ReadBatchResults(
    grpc::CallbackServerContext* context, const v1::ReadBatchResultsRequest* request) {
  return ResultsCall::Start({options_.store, options_.logger, options_.results_message}, context,
                            *request);
}

}  // namespace moelight
