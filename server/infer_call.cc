#include "server/infer_call.h"

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/convert.h"

namespace moelight {

grpc::ServerUnaryReactor* InferCall::Start(const Options& options,
                                           grpc::CallbackServerContext* context,
                                           const inference::ModelInferRequest& request,
                                           inference::ModelInferResponse* response) {
  std::shared_ptr<InferCall> call(new InferCall(options, context->peer(), response));
  call->rpc_self_ = call;
  if (absl::Status status = call->Submit(request); !status.ok()) {
    options.admission.CountRejected(status);
    MutexLock lock(&call->mutex_);
    if (!call->finished_) call->AbortLocked(status);
  }
  return call.get();
}

absl::Status InferCall::Submit(const inference::ModelInferRequest& request) {
  ASSIGN_OR_RETURN(engine_, options_.admission.Admit());
  const ModelInfo& model = engine_->model();
  RETURN_IF_ERROR(CheckModel(request.model_name(), request.model_version(), model.name));
  ASSIGN_OR_RETURN(request_, ParseInferRequest(request, model.vocab_size, options_.max_prompts));
  const size_t num_prompts = request_.prompts.size();
  sinks_.resize(num_prompts);
  {
    MutexLock lock(&mutex_);
    results_.resize(num_prompts);
    response_->set_model_name(model.name);
    response_->set_model_version(std::string(kModelVersion));
    response_->set_id(request.id());
  }
  for (size_t i = 0; i < num_prompts; ++i) RETURN_IF_ERROR(SubmitPrompt(i));
  return absl::OkStatus();
}

absl::Status InferCall::SubmitPrompt(size_t index) {
  {
    MutexLock lock(&mutex_);
    if (finished_) return absl::OkStatus();  // an earlier prompt failed, or the client went away
  }
  GenerateRequest generate;
  generate.input = std::move(request_.prompts[index]);
  generate.sampling = request_.sampling;
  generate.group.priority = kInteractivePriority;
  Sink& sink = sinks_[index];
  sink.call = shared_from_this();
  sink.index = index;
  const absl::StatusOr<RequestId> id = engine_->Submit(std::move(generate), &sink);
  if (!id.ok()) {
    sink.call.reset();
    return id.status();
  }
  MutexLock lock(&mutex_);
  request_ids_.push_back(*id);
  if (finished_) engine_->Cancel(*id);
  return absl::OkStatus();
}

void InferCall::Take(size_t index, GenerateResult result) {
  MutexLock lock(&mutex_);
  if (finished_) return;
  if (!result.status.ok()) {
    AbortLocked(absl::Status(
        result.status.code(),
        absl::StrCat("element ", index, " of tensor \"text_input\": ", result.status.message())));
    return;
  }
  output_bytes_ += result.choices[0].text.size();
  if (output_bytes_ > options_.max_output_bytes) {
    AbortLocked(absl::ResourceExhaustedError(
        absl::StrCat("the answers have ", output_bytes_, " bytes so far, limit ",
                     options_.max_output_bytes, " (server.limits.stream_buffer)")));
    return;
  }
  results_[index] = std::move(result);
  if (++num_results_ < results_.size()) return;
  FillOutputs(request_, results_, *response_);
  FinishLocked(absl::OkStatus());
}

void InferCall::AbortLocked(const absl::Status& status) {
  FinishLocked(status);
  for (const RequestId id : request_ids_) engine_->Cancel(id);
}

void InferCall::FinishLocked(const absl::Status& status) {
  finished_ = true;
  int64_t num_tokens = 0;
  for (const GenerateResult& result : results_) num_tokens += ToUsage(result).completion_tokens();
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - start_;
  options_.logger.Info("model_infer", {{"peer", peer_},
                                       {"prompts", static_cast<int64_t>(results_.size())},
                                       {"completion_tokens", num_tokens},
                                       {"code", absl::StatusCodeToString(status.code())},
                                       {"ms", elapsed.count()}});
  options_.caller.stream.reset();
  Finish(ToGrpcStatus(status));
}

void InferCall::OnCancel() {
  MutexLock lock(&mutex_);
  if (!finished_) AbortLocked(absl::CancelledError("the client went away"));
}

void InferCall::OnDone() { const std::shared_ptr<InferCall> self = std::move(rpc_self_); }

}  // namespace moelight
