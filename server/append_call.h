// AppendCall: one AppendBatchRequests stream. Rows go to the store message by message, and the next
// message is read only while few are on their way to the disk, so a fast client waits in its own
// send window and not in our memory.
//
// Messages are read as bytes and parsed here: gRPC tells a message that cannot be parsed and the
// end of the stream alike, and rows after a bad message must not count as never sent.
//
// Threads: gRPC's reactions, the store's writer thread and whoever releases the byte budget meet in
// one mutex; no operation of gRPC runs a reaction inline, so operations start under it.
// Owns: itself, until gRPC is done with the call and every store callback has come back.
#ifndef MOELIGHT_SERVER_APPEND_CALL_H_
#define MOELIGHT_SERVER_APPEND_CALL_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "engine/base/logger.h"
#include "engine/base/mutex.h"
#include "moelight/v1/batch_job.pb.h"
#include "server/access.h"
#include "server/admission.h"
#include "server/job_store.h"

namespace moelight {

class AppendCall final : public grpc::ServerReadReactor<grpc::ByteBuffer>,
                         public std::enable_shared_from_this<AppendCall> {
 public:
  struct Options {
    JobStore& store;
    Admission& admission;
    Logger& logger;
    Caller caller;
    int32_t max_messages;  // on their way to the disk
  };
  // `response` lives until the call is finished.
  static grpc::ServerReadReactor<grpc::ByteBuffer>* Start(const Options& options,
                                                          grpc::CallbackServerContext* context,
                                                          grpc::ByteBuffer* response);

  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  AppendCall(const Options& options, std::string peer, grpc::ByteBuffer* response_bytes)
      : options_(options), peer_(std::move(peer)), response_bytes_(response_bytes) {}

  void OnMessage();
  // Checks the head of the message just read and, in the first one, opens the job.
  absl::Status CheckMessageLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OpenJobLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckRows();
  // The budget for the message in hand is there.
  void StoreRows(int64_t bytes);
  void ListRefusalsLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnStored(int64_t bytes, const absl::StatusOr<AppendOutcome>& outcome);
  void ContinueLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Options options_;
  const std::string peer_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::shared_ptr<AppendCall> self_;  // until OnDone

  // Written by gRPC while a read is out, ours until the next one starts.
  grpc::ByteBuffer message_bytes_;
  v1::AppendBatchRequestsRequest message_;
  std::vector<AppendRow> rows_;  // of message_, checked

  Mutex mutex_;
  grpc::ByteBuffer* const response_bytes_ ABSL_PT_GUARDED_BY(mutex_);
  v1::AppendBatchRequestsResponse response_ ABSL_GUARDED_BY(mutex_);
  std::string job_id_ ABSL_GUARDED_BY(mutex_);
  v1::SamplingParams job_defaults_;  // set by the first message
  int32_t vocab_size_ = 0;           // set by the first message
  bool validate_only_ = false;       // set by the first message
  int64_t num_messages_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t num_storing_ ABSL_GUARDED_BY(mutex_) = 0;   // messages on their way to the disk
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;      // a read is out or its message is in hand
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;  // the client has sent everything
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;     // Finish was called; no operation after it
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_APPEND_CALL_H_
