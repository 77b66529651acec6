#include "server/watch_call.h"

#include <utility>

#include "server/convert.h"

namespace moelight {
namespace {

bool HasEnded(v1::BatchJob::State state) {
  return state == v1::BatchJob::STATE_SUCCEEDED || state == v1::BatchJob::STATE_FAILED ||
         state == v1::BatchJob::STATE_CANCELLED || state == v1::BatchJob::STATE_EXPIRED;
}

}  // namespace

grpc::ServerWriteReactor<v1::WatchBatchJobResponse>* WatchCall::Start(
    JobStore& store, Caller caller, const v1::WatchBatchJobRequest& request) {
  std::shared_ptr<WatchCall> call(new WatchCall(store, std::move(caller), request.job_id()));
  {
    MutexLock lock(&call->mutex_);
    call->self_ = call;
  }
  // Before the job is read, or a change between the two would be missed.
  call->subscription_ = store.Subscribe(call->job_id_, [weak = call->weak_from_this()]() {
    if (const std::shared_ptr<WatchCall> call = weak.lock()) call->OnChanged();
  });
  MutexLock lock(&call->mutex_);
  call->ContinueLocked();
  return call.get();
}

void WatchCall::OnChanged() {
  MutexLock lock(&mutex_);
  changed_ = true;
  ContinueLocked();
}

void WatchCall::OnTimer() {
  MutexLock lock(&mutex_);
  timer_set_ = false;
  ContinueLocked();
}

void WatchCall::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  writing_ = false;
  if (finished_) return;
  if (!ok || ended_) {
    FinishLocked(ok ? absl::OkStatus() : absl::CancelledError("the client went away"));
    return;
  }
  ContinueLocked();
}

void WatchCall::ContinueLocked() {
  if (finished_ || writing_ || timer_set_ || !changed_) return;
  const auto elapsed = std::chrono::steady_clock::now() - last_sent_;
  if (!sent_ || elapsed >= kMinInterval) {
    SendLocked();
    return;
  }
  timer_set_ = true;
  timer_ = std::make_unique<grpc::Alarm>();
  const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(kMinInterval - elapsed);
  // The alarm keeps its callback for as long as it lives, so a shared pointer would be a cycle.
  timer_->Set(std::chrono::system_clock::now() + rest, [weak = weak_from_this()](bool) {
    if (const std::shared_ptr<WatchCall> call = weak.lock()) call->OnTimer();
  });
}

void WatchCall::SendLocked() {
  changed_ = false;
  absl::StatusOr<v1::BatchJob> job = store_.Get(job_id_);
  if (!job.ok()) {
    FinishLocked(job.status());
    return;
  }
  ended_ = HasEnded(job->state());
  last_sent_ = std::chrono::steady_clock::now();
  sent_ = true;
  *response_.mutable_job() = *std::move(job);
  writing_ = true;
  StartWrite(&response_);
}

void WatchCall::FinishLocked(const absl::Status& status) {
  finished_ = true;
  if (timer_set_) timer_->Cancel();
  caller_.stream.reset();
  Finish(ToGrpcStatus(status));
}

void WatchCall::OnCancel() {
  MutexLock lock(&mutex_);
  if (!finished_) FinishLocked(absl::CancelledError("the client went away"));
}

void WatchCall::OnDone() {
  const std::shared_ptr<WatchCall> self = std::move(self_);
  // Without the lock: Unsubscribe waits for an OnChanged that is running.
  store_.Unsubscribe(subscription_);
}

}  // namespace moelight
