#include "server/append_call.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/convert.h"
#include "server/parse_guard.h"

namespace moelight {
namespace {

constexpr int kMaxListedRefusals = 100;  // as the comment in batch_job.proto states

}  // namespace

grpc::ServerReadReactor<grpc::ByteBuffer>* AppendCall::Start(const Options& options,
                                                             grpc::CallbackServerContext* context,
                                                             grpc::ByteBuffer* response) {
  std::shared_ptr<AppendCall> call(new AppendCall(options, context->peer(), response));
  MutexLock lock(&call->mutex_);
  call->self_ = call;
  call->ContinueLocked();
  return call.get();
}

void AppendCall::OnReadDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    if (finished_) return;
    if (!ok) {
      reading_ = false;
      half_closed_ = true;
      ContinueLocked();
      return;
    }
  }
  OnMessage();
}

void AppendCall::OnMessage() {
  const int64_t bytes = message_bytes_.Length();
  absl::Status status = ParseMessage(&message_bytes_, &message_);
  {
    MutexLock lock(&mutex_);
    if (finished_) return;
    if (status.ok()) status = CheckMessageLocked();
    if (!status.ok()) {
      options_.admission.CountRejected(status);
      FinishLocked(status);
      return;
    }
    ++num_messages_;
  }
  CheckRows();  // here and not once the bytes are granted, which may be on the store's thread
  options_.admission.append_budget().Acquire(
      bytes, [self = shared_from_this(), bytes]() { self->StoreRows(bytes); });
}

absl::Status AppendCall::CheckMessageLocked() {
  if (num_messages_ == 0) RETURN_IF_ERROR(OpenJobLocked());
  RETURN_IF_ERROR(options_.admission.Admit().status());
  if (!message_.job_id().empty() && message_.job_id() != job_id_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "job_id: \"", message_.job_id(), "\", but this stream began with \"", job_id_, "\""));
  }
  if (message_.first_row() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("first_row: ", message_.first_row(), " is negative"));
  }
  return absl::OkStatus();
}

absl::Status AppendCall::OpenJobLocked() {
  ASSIGN_OR_RETURN(Engine * engine, options_.admission.Admit());
  if (message_.job_id().empty()) return absl::InvalidArgumentError("job_id: empty");
  ASSIGN_OR_RETURN(v1::BatchJob job, FindJob(options_.store, options_.caller, message_.job_id()));
  job_id_ = message_.job_id();
  job_defaults_ = std::move(*job.mutable_default_sampling());
  vocab_size_ = engine->model().vocab_size;
  validate_only_ = message_.validate_only();
  response_.set_num_rows(job.num_rows());
  return absl::OkStatus();
}

void AppendCall::CheckRows() {
  rows_.clear();
  rows_.reserve(message_.requests_size());
  for (v1::BatchRequest& request : *message_.mutable_requests()) {
    rows_.push_back(options_.admission.CheckRow(std::move(request), job_defaults_, vocab_size_));
  }
}

void AppendCall::StoreRows(int64_t bytes) {
  std::string job_id;
  {
    MutexLock lock(&mutex_);
    ++num_storing_;
    job_id = job_id_;
    if (!finished_) ListRefusalsLocked();
  }
  if (validate_only_ || rows_.empty()) {
    OnStored(bytes, AppendOutcome{});
  } else {
    options_.store.Append(
        job_id, message_.first_row(), std::move(rows_),
        [self = shared_from_this(), bytes](const absl::StatusOr<AppendOutcome>& outcome) {
          self->OnStored(bytes, outcome);
        });
  }
  MutexLock lock(&mutex_);
  reading_ = false;
  ContinueLocked();
}

void AppendCall::ListRefusalsLocked() {
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].refusal.code() == 0) continue;
    response_.set_num_refused(response_.num_refused() + 1);
    if (response_.refused_rows_size() == kMaxListedRefusals) continue;
    v1::RefusedRow& refused = *response_.add_refused_rows();
    refused.set_row(message_.first_row() + i);
    refused.set_custom_id(rows_[i].request.custom_id());
    *refused.mutable_error() = rows_[i].refusal;
  }
}

void AppendCall::OnStored(int64_t bytes, const absl::StatusOr<AppendOutcome>& outcome) {
  options_.admission.append_budget().Release(bytes);
  MutexLock lock(&mutex_);
  --num_storing_;
  if (finished_) return;
  if (!outcome.ok()) {
    options_.admission.CountRejected(outcome.status());
    FinishLocked(outcome.status());
    return;
  }
  response_.set_num_rows(std::max(response_.num_rows(), outcome->num_rows));
  ContinueLocked();
}

void AppendCall::ContinueLocked() {
  if (finished_ || reading_) return;
  if (half_closed_) {
    if (num_storing_ > 0) return;
    FinishLocked(num_messages_ > 0 ? absl::OkStatus()
                                   : absl::InvalidArgumentError("job_id: no message was sent"));
    return;
  }
  if (num_storing_ >= options_.max_messages) return;
  reading_ = true;
  StartRead(&message_bytes_);
}

void AppendCall::FinishLocked(const absl::Status& status) {
  finished_ = true;
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - start_;
  options_.logger.Info("append", {{"peer", peer_},
                                  {"job_id", job_id_},
                                  {"num_rows", response_.num_rows()},
                                  {"num_refused", response_.num_refused()},
                                  {"code", absl::StatusCodeToString(status.code())},
                                  {"ms", elapsed.count()}});
  if (status.ok()) *response_bytes_ = SerializeMessage(response_);
  options_.caller.stream.reset();
  Finish(ToGrpcStatus(status));
}

void AppendCall::OnCancel() {
  MutexLock lock(&mutex_);
  if (!finished_) FinishLocked(absl::CancelledError("the client went away"));
}

void AppendCall::OnDone() {
  // Store callbacks may still hold the call; they find it finished.
  const std::shared_ptr<AppendCall> self = std::move(self_);
}

}  // namespace moelight
