// InferRequest: a ModelInfer request as prompts and sampling parameters, and answers as its
// response.
//
// Pure functions, thread-safe. Errors: InvalidArgument that begins with the field path and names
// the tensor; ResourceExhausted for more prompts than a call may have.
#ifndef MOELIGHT_SERVER_INFER_REQUEST_H_
#define MOELIGHT_SERVER_INFER_REQUEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/request.h"
#include "inference/open_inference.pb.h"

namespace moelight {

// The only version that a model has.
inline constexpr absl::string_view kModelVersion = "1";

enum class InferOutput : uint8_t { kText, kFinishReason, kNumInputTokens, kNumOutputTokens };

struct InferRequest {
  std::vector<std::string> prompts;
  std::vector<int64_t> shape;  // of text_input and of every output
  SamplingParams sampling;
  std::vector<InferOutput> outputs;  // what is wanted, each once
  bool is_raw = false;               // tensors travel as bytes
};

// Whether this process serves the model. NotFound otherwise.
absl::Status CheckModel(const std::string& name, const std::string& version,
                        const std::string& served_name);

absl::StatusOr<InferRequest> ParseInferRequest(const inference::ModelInferRequest& request,
                                               int32_t vocab_size, int64_t max_prompts);

// The outputs for one result with one choice per prompt.
void FillOutputs(const InferRequest& request, absl::Span<const GenerateResult> results,
                 inference::ModelInferResponse& response);

// The tensors that there are.
void FillTensors(inference::ModelMetadataResponse& response);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_INFER_REQUEST_H_
