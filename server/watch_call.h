// WatchCall: one WatchBatchJob stream. The job is sent at once and after changes, never more often
// than every kMinInterval, until it has ended.
//
// Threads: gRPC's reactions, its timer and the store's writer thread meet in one mutex, see
// AppendCall.
// Owns: itself, until gRPC is done with the call.
#ifndef MOELIGHT_SERVER_WATCH_CALL_H_
#define MOELIGHT_SERVER_WATCH_CALL_H_

#include <chrono>
#include <memory>
#include <string>

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "engine/base/mutex.h"
#include "moelight/v1/batch_job.pb.h"
#include "server/access.h"
#include "server/job_store.h"

namespace moelight {

class WatchCall final : public grpc::ServerWriteReactor<v1::WatchBatchJobResponse>,
                        public std::enable_shared_from_this<WatchCall> {
 public:
  static constexpr std::chrono::milliseconds kMinInterval{500};

  static grpc::ServerWriteReactor<v1::WatchBatchJobResponse>* Start(
      JobStore& store, Caller caller, const v1::WatchBatchJobRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  WatchCall(JobStore& store, Caller caller, std::string job_id)
      : store_(store), caller_(std::move(caller)), job_id_(std::move(job_id)) {}

  void OnChanged();
  void OnTimer();
  // Sends the job if it changed and the interval has passed, or sets the timer.
  void ContinueLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  JobStore& store_;
  Caller caller_;
  const std::string job_id_;
  std::shared_ptr<WatchCall> self_;            // until OnDone
  JobStore::SubscriptionId subscription_ = 0;  // set by Start
  v1::WatchBatchJobResponse response_;         // gRPC's while a write is out

  Mutex mutex_;
  // A new one each time: an alarm cannot be set again from within its own callback.
  std::unique_ptr<grpc::Alarm> timer_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point last_sent_ ABSL_GUARDED_BY(mutex_);  // if sent_
  bool sent_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;   // the job, as last sent
  bool changed_ ABSL_GUARDED_BY(mutex_) = true;  // the job, since it was last sent
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool timer_set_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called; no operation after it
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_WATCH_CALL_H_
