#include "server/batch_job_service.h"

#include <string>
#include <utility>

#include <absl/strings/str_cat.h>
#include <google/protobuf/util/time_util.h>

#include "engine/base/status_macros.h"
#include "server/append_call.h"
#include "server/convert.h"
#include "server/refused_call.h"
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

absl::StatusOr<v1::CreateBatchJobRequest> BatchJobServiceImpl::CheckCreate(
    const grpc::CallbackServerContext& context, const v1::CreateBatchJobRequest& request) {
  ASSIGN_OR_RETURN(const Caller caller, options_.access.Authenticate(context));
  ASSIGN_OR_RETURN(const Engine* engine, options_.admission.Admit());
  const absl::Status checked = options_.admission.CheckJob(request, engine->model().vocab_size);
  options_.admission.CountRejected(checked);
  RETURN_IF_ERROR(checked);
  v1::CreateBatchJobRequest owned = request;
  if (owned.job().client().empty()) owned.mutable_job()->set_client(caller.tenant);
  if (caller.Sees(owned.job())) return owned;
  return absl::InvalidArgumentError(absl::StrCat("job.client: is \"", owned.job().client(),
                                                 "\", but the API key is of tenant \"",
                                                 caller.tenant, "\""));
}

absl::Status BatchJobServiceImpl::CheckOwner(const grpc::CallbackServerContext& context,
                                             const std::string& job_id) const {
  ASSIGN_OR_RETURN(const Caller caller, options_.access.Authenticate(context));
  return FindJob(options_.store, caller, job_id).status();
}

absl::StatusOr<Caller> BatchJobServiceImpl::OpenStream(const grpc::CallbackServerContext& context,
                                                       const std::string& job_id) {
  ASSIGN_OR_RETURN(Caller caller, options_.access.AuthenticateStream(context));
  RETURN_IF_ERROR(FindJob(options_.store, caller, job_id).status());
  return caller;
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::CreateBatchJob(
    grpc::CallbackServerContext* context, const v1::CreateBatchJobRequest* request,
    v1::CreateBatchJobResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<v1::CreateBatchJobRequest> owned = CheckCreate(*context, *request);
  if (!owned.ok()) {
    reactor->Finish(ToGrpcStatus(owned.status()));
    return reactor;
  }
  options_.store.Create(
      *owned, [this, context, response, reactor](absl::StatusOr<v1::BatchJob> job) {
        options_.admission.CountRejected(job.status());
        ReplyWithJob(options_.logger, "create_job", context, "", response, reactor)(std::move(job));
      });
  return reactor;
}

grpc::ServerReadReactor<grpc::ByteBuffer>* BatchJobServiceImpl::AppendBatchRequests(
    grpc::CallbackServerContext* context, grpc::ByteBuffer* response) {
  absl::StatusOr<Caller> caller = options_.access.AuthenticateStream(*context);
  if (!caller.ok()) {
    return RefusedCall<grpc::ServerReadReactor<grpc::ByteBuffer>>::Start(caller.status());
  }
  return AppendCall::Start({options_.store, options_.admission, options_.logger, *std::move(caller),
                            options_.append_messages},
                           context, response);
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::SealBatchJob(grpc::CallbackServerContext* context,
                                                            const v1::SealBatchJobRequest* request,
                                                            v1::SealBatchJobResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = CheckOwner(*context, request->job_id());
  if (status.ok()) status = options_.admission.Admit().status();
  if (status.ok() && request->has_expected_rows() && request->expected_rows() < 0) {
    status = absl::InvalidArgumentError("expected_rows: negative");
  }
  if (!status.ok()) {
    reactor->Finish(ToGrpcStatus(status));
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
  const absl::StatusOr<Caller> caller = options_.access.Authenticate(*context);
  absl::StatusOr<v1::BatchJob> job =
      caller.ok() ? FindJob(options_.store, *caller, request->job_id()) : caller.status();
  if (job.ok()) *response->mutable_job() = *std::move(job);
  reactor->Finish(ToGrpcStatus(job.status()));
  return reactor;
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::ListBatchJobs(
    grpc::CallbackServerContext* context, const v1::ListBatchJobsRequest* request,
    v1::ListBatchJobsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<Caller> caller = options_.access.Authenticate(*context);
  absl::StatusOr<v1::ListBatchJobsResponse> jobs =
      caller.ok() ? options_.store.List(*request, caller->only_client()) : caller.status();
  if (jobs.ok()) *response = *std::move(jobs);
  reactor->Finish(ToGrpcStatus(jobs.status()));
  return reactor;
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::CancelBatchJob(
    grpc::CallbackServerContext* context, const v1::CancelBatchJobRequest* request,
    v1::CancelBatchJobResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (absl::Status status = CheckOwner(*context, request->job_id()); !status.ok()) {
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }
  options_.store.Cancel(request->job_id(), ReplyWithJob(options_.logger, "cancel_job", context,
                                                        request->job_id(), response, reactor));
  return reactor;
}

grpc::ServerUnaryReactor* BatchJobServiceImpl::DeleteBatchJob(
    grpc::CallbackServerContext* context, const v1::DeleteBatchJobRequest* request,
    v1::DeleteBatchJobResponse* /*response*/) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (absl::Status status = CheckOwner(*context, request->job_id()); !status.ok()) {
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }
  options_.store.Delete(request->job_id(), [this, context, reactor, job_id = request->job_id()](
                                               const absl::StatusOr<bool>& deleted) {
    FinishChange(options_.logger, "delete_job", context, job_id, deleted.status(), reactor);
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::WatchBatchJobResponse>* BatchJobServiceImpl::WatchBatchJob(
    grpc::CallbackServerContext* context, const v1::WatchBatchJobRequest* request) {
  absl::StatusOr<Caller> caller = OpenStream(*context, request->job_id());
  if (!caller.ok()) {
    return RefusedCall<grpc::ServerWriteReactor<v1::WatchBatchJobResponse>>::Start(caller.status());
  }
  return WatchCall::Start(options_.store, *std::move(caller), *request);
}

grpc::ServerWriteReactor<v1::ReadBatchResultsResponse>* BatchJobServiceImpl::ReadBatchResults(
    grpc::CallbackServerContext* context, const v1::ReadBatchResultsRequest* request) {
  absl::StatusOr<Caller> caller = OpenStream(*context, request->job_id());
  if (!caller.ok()) {
    return RefusedCall<grpc::ServerWriteReactor<v1::ReadBatchResultsResponse>>::Start(
        caller.status());
  }
  return ResultsCall::Start(
      {options_.store, options_.logger, *std::move(caller), options_.results_message}, context,
      *request);
}

}  // namespace moelight
