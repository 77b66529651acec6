// InferCall: one ModelInfer call, a few prompts that go to the engine one by one and are answered
// together.
//
// All of them succeed or the call fails: the protocol has one status for the call, so the first
// prompt that cannot be answered ends the others.
//
// Threads: gRPC's reactions and the engine's threads meet in one mutex, see AppendCall.
// Owns: itself, until gRPC and the engine are both done with it.
#ifndef MOELIGHT_SERVER_INFER_CALL_H_
#define MOELIGHT_SERVER_INFER_CALL_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "engine/base/logger.h"
#include "engine/base/mutex.h"
#include "engine/engine.h"
#include "inference/open_inference.pb.h"
#include "server/access.h"
#include "server/admission.h"
#include "server/infer_request.h"

namespace moelight {

class InferCall final : public grpc::ServerUnaryReactor,
                        public std::enable_shared_from_this<InferCall> {
 public:
  struct Options {
    Admission& admission;
    Logger& logger;
    Caller caller;
    int64_t max_prompts;       // of one call
    int64_t max_output_bytes;  // of one call
  };
  static grpc::ServerUnaryReactor* Start(const Options& options,
                                         grpc::CallbackServerContext* context,
                                         const inference::ModelInferRequest& request,
                                         inference::ModelInferResponse* response);

  void OnCancel() override;
  void OnDone() override;

 private:
  // The engine's end of one prompt.
  struct Sink final : public TokenSink {
    void OnDelta(TokenDelta) override {}
    void OnFinish(GenerateResult result) override {
      const std::shared_ptr<InferCall> owner = std::move(call);
      owner->Take(index, std::move(result));
    }
    std::shared_ptr<InferCall> call;  // until OnFinish
    size_t index = 0;                 // of the prompt
  };

  InferCall(const Options& options, std::string peer, inference::ModelInferResponse* response)
      : options_(options), peer_(std::move(peer)), response_(response) {}

  absl::Status Submit(const inference::ModelInferRequest& request);
  absl::Status SubmitPrompt(size_t index);
  void Take(size_t index, GenerateResult result);
  // Ends the call, and what of it still runs.
  void AbortLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Options options_;
  const std::string peer_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  Engine* engine_ = nullptr;             // set by Submit
  InferRequest request_;                 // set by Submit
  std::vector<Sink> sinks_;              // [num_prompts], set by Submit
  std::shared_ptr<InferCall> rpc_self_;  // until OnDone

  Mutex mutex_;
  inference::ModelInferResponse* response_ ABSL_GUARDED_BY(mutex_);  // gRPC's; not once finished_
  std::vector<RequestId> request_ids_ ABSL_GUARDED_BY(mutex_);
  std::vector<GenerateResult> results_ ABSL_GUARDED_BY(mutex_);  // [num_prompts]
  size_t num_results_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t output_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_INFER_CALL_H_
