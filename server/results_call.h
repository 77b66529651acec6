// ResultsCall: one ReadBatchResults stream. It reads a page from the store, writes it, and only
// then reads the next, so a slow client holds one page of memory.
//
// Threads: gRPC's reactions and the store's threads meet in one mutex, see AppendCall.
// Owns: itself, until gRPC is done with the call and the store's callback has come back.
#ifndef MOELIGHT_SERVER_RESULTS_CALL_H_
#define MOELIGHT_SERVER_RESULTS_CALL_H_

#include <cstdint>
#include <memory>
#include <string>

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "engine/base/logger.h"
#include "engine/base/mutex.h"
#include "moelight/v1/batch_job.pb.h"
#include "server/access.h"
#include "server/job_store.h"

namespace moelight {

class ResultsCall final : public grpc::ServerWriteReactor<v1::ReadBatchResultsResponse>,
                          public std::enable_shared_from_this<ResultsCall> {
 public:
  struct Options {
    JobStore& store;
    Logger& logger;
    Caller caller;
    int64_t page_bytes;  // aim for one message
  };
  static grpc::ServerWriteReactor<v1::ReadBatchResultsResponse>* Start(
      const Options& options, grpc::CallbackServerContext* context,
      const v1::ReadBatchResultsRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  ResultsCall(const Options& options, std::string peer, const v1::ReadBatchResultsRequest& request)
      : options_(options),
        peer_(std::move(peer)),
        job_id_(request.job_id()),
        follow_(request.follow()),
        cursor_(request.cursor()) {}

  void ReadPage();
  void OnPage(absl::StatusOr<ResultsPage> page);
  // True: there is something to read, and the caller is to call ReadPage.
  bool WaitLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnChanged();
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Options options_;
  const std::string peer_;
  const std::string job_id_;
  const bool follow_;
  std::shared_ptr<ResultsCall> self_;          // until OnDone
  JobStore::SubscriptionId subscription_ = 0;  // if follow_; set by Start
  v1::ReadBatchResultsResponse response_;      // gRPC's while a write is out

  Mutex mutex_;
  int64_t cursor_ ABSL_GUARDED_BY(mutex_);
  int64_t num_results_ ABSL_GUARDED_BY(mutex_) = 0;
  bool at_end_ ABSL_GUARDED_BY(mutex_) = false;    // nothing can follow the page being written
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;   // the job, since the last page was asked for
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;   // for a change
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called; no operation after it
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_RESULTS_CALL_H_
