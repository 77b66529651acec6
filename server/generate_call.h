// GenerateCall: one Generate stream, the bridge from the engine's TokenSink to gRPC's writes.
//
// While a write is out, further pieces of the same choice grow into one. A reader so slow that more
// than `stream_buffer` bytes gather is cut off, because the engine must never wait for it.
//
// Threads: gRPC's reactions and the engine's threads meet in one mutex, see AppendCall.
// Owns: itself, until gRPC and the engine are both done with it.
#ifndef MOELIGHT_SERVER_GENERATE_CALL_H_
#define MOELIGHT_SERVER_GENERATE_CALL_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "engine/base/logger.h"
#include "engine/base/mutex.h"
#include "engine/engine.h"
#include "moelight/v1/inference.pb.h"
#include "server/access.h"
#include "server/admission.h"

namespace moelight {

class GenerateCall final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                           public TokenSink,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  struct Options {
    Admission& admission;
    Logger& logger;
    Caller caller;
    int64_t stream_buffer;  // bytes
  };
  static grpc::ServerWriteReactor<v1::GenerateResponse>* Start(const Options& options,
                                                               grpc::CallbackServerContext* context,
                                                               const v1::GenerateRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void OnDelta(TokenDelta delta) override;
  void OnFinish(GenerateResult result) override;

 private:
  GenerateCall(const Options& options, std::string peer)
      : options_(options), peer_(std::move(peer)) {}

  absl::Status Submit(const v1::GenerateRequest& request);
  void WriteNextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteDeltaLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteEndLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the call before the engine is done.
  void AbortLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LogEndLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Options options_;
  const std::string peer_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  Engine* engine_ = nullptr;                 // set by Submit
  std::shared_ptr<GenerateCall> rpc_self_;   // until OnDone
  std::shared_ptr<GenerateCall> sink_self_;  // until OnFinish
  v1::GenerateResponse response_;            // gRPC's while a write is out

  Mutex mutex_;
  std::optional<RequestId> request_id_ ABSL_GUARDED_BY(mutex_);    // once Submit has returned
  std::map<int32_t, TokenDelta> pending_ ABSL_GUARDED_BY(mutex_);  // unsent, by choice
  int64_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<GenerateResult> result_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool aborted_ ABSL_GUARDED_BY(mutex_) = false;   // the engine is to stop
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called; no operation after it
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_GENERATE_CALL_H_
