// Between the protocol's messages and the engine's values, and absl::Status and google.rpc.Status.
//
// Pure functions, thread-safe. Errors start with the path of the field that is wrong.
#ifndef MOELIGHT_SERVER_CONVERT_H_
#define MOELIGHT_SERVER_CONVERT_H_

#include <cstdint>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>
#include <grpcpp/support/status.h>

#include "engine/engine.h"
#include "engine/request.h"
#include "google/rpc/status.pb.h"
#include "moelight/v1/batch_job.pb.h"
#include "moelight/v1/inference.pb.h"

namespace moelight {

// InvalidArgument naming the field path ("prompt", "prompt.chat.messages[2].role",
// "sampling.temperature") for anything that can be said without the tokenizer.
absl::StatusOr<GenerateRequest> ToGenerateRequest(const v1::Prompt& prompt,
                                                  const v1::SamplingParams& sampling,
                                                  int32_t vocab_size);
// The two halves of it.
absl::StatusOr<PromptInput> ToPromptInput(const v1::Prompt& prompt, int32_t vocab_size);
absl::StatusOr<SamplingParams> ToSamplingParams(const v1::SamplingParams& sampling,
                                                int32_t vocab_size);

// Fields of `sampling` that are unset take the value of `defaults`. A repeated field or map counts
// as unset when it is empty.
v1::SamplingParams MergeSampling(const v1::SamplingParams& sampling,
                                 const v1::SamplingParams& defaults);

// `engine` gives the text of tokens for logprobs.
v1::TokenLogprob ToProto(const TokenLogprob& logprob, const Engine& engine);
v1::Choice ToProto(const Choice& choice, const Engine& engine);
v1::Usage ToUsage(const GenerateResult& result);
v1::BatchResult ToBatchResult(int64_t row, const std::string& custom_id,
                              const GenerateResult& result, const Engine& engine);

// ErrorInfo.reason by code; part of the protocol, so never renamed. A code that is not among them
// has the reason of Internal.
struct ErrorReason {
  absl::StatusCode code;
  const char* reason;
  const char* meaning;  // and what a client does about it
};
absl::Span<const ErrorReason> ErrorReasons();

// With an ErrorInfo (domain "moelight") and, where the message starts with a field path,
// BadRequest. ResourceExhausted also gets a QuotaFailure if the message names a configuration key,
// otherwise, like Unavailable, a RetryInfo. Payloads of `status` whose type URL starts with
// "type.googleapis.com/" are taken over and replace ours of the same type.
google::rpc::Status ToRpcStatus(const absl::Status& status);
// With the same details serialized into the grpc-status-details-bin trailer.
grpc::Status ToGrpcStatus(const absl::Status& status);

v1::ModelInfo ToProto(const ModelInfo& model);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CONVERT_H_
