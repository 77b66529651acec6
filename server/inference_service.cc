#include "server/inference_service.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "server/convert.h"
#include "server/generate_call.h"
#include "server/refused_call.h"

namespace moelight {
namespace {

absl::Status StartTokenize(const Admission& admission, const v1::TokenizeRequest& request,
                           std::function<void(absl::StatusOr<TokenizeResult>)> done) {
  ASSIGN_OR_RETURN(Engine * engine, admission.Admit());
  ASSIGN_OR_RETURN(PromptInput input, ToPromptInput(request.prompt(), engine->model().vocab_size));
  engine->Tokenize(std::move(input), std::move(done));
  return absl::OkStatus();
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceServiceImpl::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  absl::StatusOr<Caller> caller = options_.access.AuthenticateStream(*context);
  if (!caller.ok()) {
    return RefusedCall<grpc::ServerWriteReactor<v1::GenerateResponse>>::Start(caller.status());
  }
  return GenerateCall::Start(
      {options_.admission, options_.logger, *std::move(caller), options_.stream_buffer}, context,
      *request);
}

grpc::ServerUnaryReactor* InferenceServiceImpl::Tokenize(grpc::CallbackServerContext* context,
                                                         const v1::TokenizeRequest* request,
                                                         v1::TokenizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (absl::Status status = options_.access.Authenticate(*context).status(); !status.ok()) {
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }
  const absl::Status status = StartTokenize(
      options_.admission, *request, [reactor, response](absl::StatusOr<TokenizeResult> result) {
        if (result.ok()) {
          response->mutable_token_ids()->Add(result->token_ids.begin(), result->token_ids.end());
          for (std::string& token : result->tokens) response->add_tokens(std::move(token));
          response->set_text(std::move(result->text));
        }
        reactor->Finish(ToGrpcStatus(result.status()));
      });
  if (!status.ok()) {
    options_.admission.CountRejected(status);
    reactor->Finish(ToGrpcStatus(status));
  }
  return reactor;
}

grpc::ServerUnaryReactor* InferenceServiceImpl::GetModel(grpc::CallbackServerContext* context,
                                                         const v1::GetModelRequest* /*request*/,
                                                         v1::GetModelResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status status = options_.access.Authenticate(*context).status();
  if (status.ok()) {
    const Engine* engine = options_.admission.engine();
    if (engine != nullptr) *response->mutable_model() = ToProto(engine->model());
    response->set_max_message_bytes(options_.message_bytes);
    response->set_max_row_bytes(options_.row_bytes);
  }
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace moelight
