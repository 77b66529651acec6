// inference.GRPCInferenceService: the Open Inference Protocol, for clients made for KServe or
// Triton.
//
// Threads: gRPC's callback threads, which never block here.
// Borrows everything in its options; the server must be shut down before they go.
#ifndef MOELIGHT_SERVER_OPEN_INFERENCE_SERVICE_H_
#define MOELIGHT_SERVER_OPEN_INFERENCE_SERVICE_H_

#include <cstdint>
#include <string>

#include "engine/base/logger.h"
#include "inference/open_inference.grpc.pb.h"
#include "server/access.h"
#include "server/admission.h"

namespace moelight {

struct OpenInferenceServiceOptions {
  Access& access;
  Admission& admission;
  Logger& logger;
  std::string version;              // of the daemon
  int64_t infer_rows = 64;          // server.limits.infer_rows
  int64_t stream_buffer = 4 << 20;  // server.limits.stream_buffer
};

class OpenInferenceServiceImpl final : public inference::GRPCInferenceService::CallbackService {
 public:
  explicit OpenInferenceServiceImpl(OpenInferenceServiceOptions options)
      : options_(std::move(options)) {}

  grpc::ServerUnaryReactor* ServerLive(grpc::CallbackServerContext* context,
                                       const inference::ServerLiveRequest* request,
                                       inference::ServerLiveResponse* response) override;
  grpc::ServerUnaryReactor* ServerReady(grpc::CallbackServerContext* context,
                                        const inference::ServerReadyRequest* request,
                                        inference::ServerReadyResponse* response) override;
  grpc::ServerUnaryReactor* ModelReady(grpc::CallbackServerContext* context,
                                       const inference::ModelReadyRequest* request,
                                       inference::ModelReadyResponse* response) override;
  grpc::ServerUnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                                           const inference::ServerMetadataRequest* request,
                                           inference::ServerMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const inference::ModelMetadataRequest* request,
                                          inference::ModelMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* response) override;

 private:
  bool is_ready() const { return options_.admission.phase() == Phase::kServing; }

  const OpenInferenceServiceOptions options_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_OPEN_INFERENCE_SERVICE_H_
