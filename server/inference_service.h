// InferenceService: single requests, straight to the engine.
//
// Threads: gRPC's callback threads, which never block here: the engine calls back.
// Borrows everything in its options; the server must be shut down before they go.
#ifndef MOELIGHT_SERVER_INFERENCE_SERVICE_H_
#define MOELIGHT_SERVER_INFERENCE_SERVICE_H_

#include <cstdint>

#include "engine/base/logger.h"
#include "moelight/v1/inference.grpc.pb.h"
#include "server/access.h"
#include "server/admission.h"

namespace moelight {

struct InferenceServiceOptions {
  Access& access;
  Admission& admission;
  Logger& logger;
  int64_t stream_buffer = 4 << 20;  // server.limits.stream_buffer
  int64_t message_bytes = 4 << 20;  // server.limits.message_bytes
  int64_t row_bytes = 1 << 20;      // server.limits.row_bytes
};

class InferenceServiceImpl final : public v1::InferenceService::CallbackService {
 public:
  explicit InferenceServiceImpl(const InferenceServiceOptions& options) : options_(options) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  const InferenceServiceOptions options_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_INFERENCE_SERVICE_H_
