// Sampling parameters of the Open Inference Protocol: loosely typed names and values, from the
// request's parameters or from a JSON object, as fields of v1::SamplingParams.
//
// Pure functions, thread-safe. Errors: InvalidArgument that begins with "parameters.NAME" or
// "sampling_parameters.NAME".
#ifndef MOELIGHT_SERVER_INFER_PARAMETERS_H_
#define MOELIGHT_SERVER_INFER_PARAMETERS_H_

#include <string>

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include "inference/open_inference.pb.h"
#include "moelight/v1/types.pb.h"

namespace moelight {

// What ModelInferRequest.parameters says. A number may come as its digits, because some clients can
// send nothing but strings.
absl::Status ApplyInferParameters(const inference::ModelInferRequest& request,
                                  v1::SamplingParams& sampling);

// What the JSON object `text` says; a parameter that `sampling` has already is refused.
absl::Status ApplySamplingJson(absl::string_view text, v1::SamplingParams& sampling);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_INFER_PARAMETERS_H_
