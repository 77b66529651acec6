#include "server/generate_call.h"

#include <iterator>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/convert.h"

namespace moelight {
namespace {

int64_t DeltaBytes(const TokenDelta& delta) {
  int64_t bytes = delta.text.size() + delta.tokens.size() * sizeof(TokenId);
  for (const TokenLogprob& logprob : delta.logprobs) {
    bytes += sizeof(logprob) + logprob.top.size() * sizeof(logprob.top[0]);
  }
  return bytes;
}

template <typename T>
void MoveAppend(std::vector<T>& from, std::vector<T>& to) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateCall::Start(
    const Options& options, grpc::CallbackServerContext* context,
    const v1::GenerateRequest& request) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(options, context->peer()));
  call->rpc_self_ = call;
  if (absl::Status status = call->Submit(request); !status.ok()) {
    options.admission.CountRejected(status);
    MutexLock lock(&call->mutex_);
    call->AbortLocked(status);
  }
  return call.get();
}

absl::Status GenerateCall::Submit(const v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(engine_, options_.admission.Admit());
  ASSIGN_OR_RETURN(GenerateRequest generate, ToGenerateRequest(request.prompt(), request.sampling(),
                                                               engine_->model().vocab_size));
  generate.stream = true;
  generate.group.priority = kInteractivePriority;
  sink_self_ = shared_from_this();
  const absl::StatusOr<RequestId> id = engine_->Submit(std::move(generate), this);
  if (!id.ok()) {
    sink_self_.reset();
    return id.status();
  }
  MutexLock lock(&mutex_);
  request_id_ = *id;
  if (aborted_) engine_->Cancel(*id);  // the client went away while we submitted
  return absl::OkStatus();
}

void GenerateCall::OnDelta(TokenDelta delta) {
  MutexLock lock(&mutex_);
  if (finished_) return;
  pending_bytes_ += DeltaBytes(delta);
  if (pending_bytes_ > options_.stream_buffer) {
    AbortLocked(absl::ResourceExhaustedError(
        absl::StrCat("the client reads too slowly: ", pending_bytes_, " bytes wait, limit ",
                     options_.stream_buffer, " (server.limits.stream_buffer)")));
    return;
  }
  TokenDelta& pending = pending_[delta.choice];
  pending.choice = delta.choice;
  pending.text += delta.text;
  MoveAppend(delta.tokens, pending.tokens);
  MoveAppend(delta.logprobs, pending.logprobs);
  WriteNextLocked();
}

void GenerateCall::OnFinish(GenerateResult result) {
  const std::shared_ptr<GenerateCall> self = std::move(sink_self_);
  MutexLock lock(&mutex_);
  result_ = std::move(result);
  WriteNextLocked();
}

void GenerateCall::WriteNextLocked() {
  if (finished_ || writing_) return;
  if (!pending_.empty()) {
    WriteDeltaLocked();
  } else if (result_.has_value()) {
    WriteEndLocked();
  }
}

void GenerateCall::WriteDeltaLocked() {
  const TokenDelta delta = std::move(pending_.extract(pending_.begin()).mapped());
  pending_bytes_ -= DeltaBytes(delta);
  v1::GenerateResponse::Delta& proto = *response_.mutable_delta();
  proto.Clear();
  proto.set_choice(delta.choice);
  proto.set_text(delta.text);
  proto.mutable_token_ids()->Add(delta.tokens.begin(), delta.tokens.end());
  for (const TokenLogprob& logprob : delta.logprobs) {
    *proto.add_logprobs() = ToProto(logprob, *engine_);
  }
  writing_ = true;
  StartWrite(&response_);
}

void GenerateCall::WriteEndLocked() {
  finished_ = true;
  LogEndLocked(result_->status);
  options_.caller.stream.reset();
  if (!result_->status.ok()) {
    Finish(ToGrpcStatus(result_->status));
    return;
  }
  v1::GenerateResponse::Finished& proto = *response_.mutable_finished();
  for (const Choice& choice : result_->choices) *proto.add_choices() = ToProto(choice, *engine_);
  *proto.mutable_usage() = ToUsage(*result_);
  StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
}

void GenerateCall::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  writing_ = false;
  if (finished_) return;
  if (!ok) {
    AbortLocked(absl::CancelledError("the client went away"));
    return;
  }
  WriteNextLocked();
}

void GenerateCall::AbortLocked(const absl::Status& status) {
  aborted_ = true;
  finished_ = true;
  if (request_id_.has_value()) engine_->Cancel(*request_id_);
  LogEndLocked(status);
  options_.caller.stream.reset();
  Finish(ToGrpcStatus(status));
}

void GenerateCall::LogEndLocked(const absl::Status& status) {
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - start_;
  const v1::Usage usage = result_.has_value() ? ToUsage(*result_) : v1::Usage();
  options_.logger.Info("generate", {{"peer", peer_},
                                    {"prompt_tokens", usage.prompt_tokens()},
                                    {"completion_tokens", usage.completion_tokens()},
                                    {"code", absl::StatusCodeToString(status.code())},
                                    {"ms", elapsed.count()}});
}

void GenerateCall::OnCancel() {
  MutexLock lock(&mutex_);
  if (!finished_) AbortLocked(absl::CancelledError("the client went away"));
}

void GenerateCall::OnDone() { const std::shared_ptr<GenerateCall> self = std::move(rpc_self_); }

}  // namespace moelight
