#include "server/results_call.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "server/convert.h"

namespace moelight {

grpc::ServerWriteReactor<v1::ReadBatchResultsResponse>* ResultsCall::Start(
    const Options& options, grpc::CallbackServerContext* context,
    const v1::ReadBatchResultsRequest& request) {
  std::shared_ptr<ResultsCall> call(new ResultsCall(options, context->peer(), request));
  {
    MutexLock lock(&call->mutex_);
    call->self_ = call;
    if (call->cursor_ < 0) {
      call->FinishLocked(
          absl::InvalidArgumentError(absl::StrCat("cursor: ", call->cursor_, " is negative")));
      return call.get();
    }
  }
  // Before the first page is asked for, or a change between the two would be missed.
  if (call->follow_) {
    call->subscription_ = options.store.Subscribe(call->job_id_, [weak = call->weak_from_this()]() {
      if (const std::shared_ptr<ResultsCall> call = weak.lock()) call->OnChanged();
    });
  }
  call->ReadPage();
  return call.get();
}

void ResultsCall::ReadPage() {
  int64_t cursor = 0;
  {
    MutexLock lock(&mutex_);
    if (finished_) return;
    changed_ = false;
    cursor = cursor_;
  }
  options_.store.ReadResults(job_id_, cursor, options_.page_bytes,
                             [self = shared_from_this()](absl::StatusOr<ResultsPage> page) {
                               self->OnPage(std::move(page));
                             });
}

void ResultsCall::OnPage(absl::StatusOr<ResultsPage> page) {
  {
    MutexLock lock(&mutex_);
    if (finished_) return;
    if (!page.ok()) {
      FinishLocked(page.status());
      return;
    }
    cursor_ = page->next_cursor;
    at_end_ = page->job_ended;
    if (!page->results.empty()) {
      num_results_ += page->results.size();
      response_.Clear();
      for (v1::BatchResult& result : page->results) *response_.add_results() = std::move(result);
      response_.set_next_cursor(cursor_);
      StartWrite(&response_);
      return;
    }
    if (at_end_ || !follow_) {
      FinishLocked(absl::OkStatus());
      return;
    }
    if (!WaitLocked()) return;
  }
  ReadPage();
}

bool ResultsCall::WaitLocked() {
  waiting_ = !changed_;
  return changed_;
}

void ResultsCall::OnChanged() {
  {
    MutexLock lock(&mutex_);
    changed_ = true;
    if (!waiting_) return;
    waiting_ = false;
  }
  ReadPage();
}

void ResultsCall::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    if (finished_) return;
    if (!ok || at_end_) {
      FinishLocked(ok ? absl::OkStatus() : absl::CancelledError("the client went away"));
      return;
    }
  }
  ReadPage();
}

void ResultsCall::FinishLocked(const absl::Status& status) {
  finished_ = true;
  options_.logger.Info("read_results", {{"peer", peer_},
                                        {"job_id", job_id_},
                                        {"num_results", num_results_},
                                        {"next_cursor", cursor_},
                                        {"code", absl::StatusCodeToString(status.code())}});
  options_.caller.stream.reset();
  Finish(ToGrpcStatus(status));
}

void ResultsCall::OnCancel() {
  MutexLock lock(&mutex_);
  if (!finished_) FinishLocked(absl::CancelledError("the client went away"));
}

void ResultsCall::OnDone() {
  const std::shared_ptr<ResultsCall> self = std::move(self_);
  // Without the lock: Unsubscribe waits for an OnChanged that is running.
  if (subscription_ != 0) options_.store.Unsubscribe(subscription_);
}

}  // namespace moelight
