#include "server/open_inference_service.h"

#include "server/convert.h"
#include "server/infer_call.h"
#include "server/infer_request.h"

namespace moelight {
namespace {

constexpr char kServerName[] = "moelight";

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* OpenInferenceServiceImpl::ServerLive(
    grpc::CallbackServerContext* context, const inference::ServerLiveRequest* /*request*/,
    inference::ServerLiveResponse* response) {
  if (absl::Status status = options_.access.Authenticate(*context).status(); !status.ok()) {
    return Finish(context, status);
  }
  response->set_live(true);
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* OpenInferenceServiceImpl::ServerReady(
    grpc::CallbackServerContext* context, const inference::ServerReadyRequest* /*request*/,
    inference::ServerReadyResponse* response) {
  if (absl::Status status = options_.access.Authenticate(*context).status(); !status.ok()) {
    return Finish(context, status);
  }
  response->set_ready(is_ready());
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* OpenInferenceServiceImpl::ModelReady(
    grpc::CallbackServerContext* context, const inference::ModelReadyRequest* request,
    inference::ModelReadyResponse* response) {
  if (absl::Status status = options_.access.Authenticate(*context).status(); !status.ok()) {
    return Finish(context, status);
  }
  // Which model it will be is not known while it is loading, so no name is refused yet.
  const Engine* engine = options_.admission.engine();
  if (engine == nullptr) return Finish(context, absl::OkStatus());
  response->set_ready(is_ready());
  return Finish(context, CheckModel(request->name(), request->version(), engine->model().name));
}

grpc::ServerUnaryReactor* OpenInferenceServiceImpl::ServerMetadata(
    grpc::CallbackServerContext* context, const inference::ServerMetadataRequest* /*request*/,
    inference::ServerMetadataResponse* response) {
  if (absl::Status status = options_.access.Authenticate(*context).status(); !status.ok()) {
    return Finish(context, status);
  }
  response->set_name(kServerName);
  response->set_version(options_.version);
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* OpenInferenceServiceImpl::ModelMetadata(
    grpc::CallbackServerContext* context, const inference::ModelMetadataRequest* request,
    inference::ModelMetadataResponse* response) {
  if (absl::Status status = options_.access.Authenticate(*context).status(); !status.ok()) {
    return Finish(context, status);
  }
  const Engine* engine = options_.admission.engine();
  if (engine == nullptr) {
    return Finish(context, absl::UnavailableError("the model is being loaded, try again"));
  }
  response->set_name(engine->model().name);
  response->add_versions(std::string(kModelVersion));
  response->set_platform(kServerName);
  FillTensors(*response);
  return Finish(context, CheckModel(request->name(), request->version(), engine->model().name));
}

grpc::ServerUnaryReactor* OpenInferenceServiceImpl::ModelInfer(
    grpc::CallbackServerContext* context, const inference::ModelInferRequest* request,
    inference::ModelInferResponse* response) {
  absl::StatusOr<Caller> caller = options_.access.AuthenticateStream(*context);
  if (!caller.ok()) return Finish(context, caller.status());
  return InferCall::Start({options_.admission, options_.logger, *std::move(caller),
                           options_.infer_rows, options_.stream_buffer},
                          context, *request, response);
}

}  // namespace moelight
