#include "server/infer_request.h"

#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/strip.h>

#include "engine/base/status_macros.h"
#include "server/convert.h"
#include "server/infer_parameters.h"

namespace moelight {
namespace {

using inference::ModelInferRequest;
using InputTensor = ModelInferRequest::InferInputTensor;

static_assert(std::endian::native == std::endian::little, "raw tensors are little-endian");

constexpr int64_t kAnySize = -1;

struct TensorRow {
  const char* name;
  const char* datatype;
  int64_t size;  // elements
};

// `stream` and `exclude_input_in_output` are there because clients of Triton's vLLM backend send
// them; each may only say what this service does anyway.
enum InputIndex { kTextInput, kSamplingParameters, kStream, kExcludeInput, kNumInputs };
constexpr TensorRow kInputs[kNumInputs] = {{"text_input", "BYTES", kAnySize},
                                           {"sampling_parameters", "BYTES", 1},
                                           {"stream", "BOOL", 1},
                                           {"exclude_input_in_output", "BOOL", 1}};

// By InferOutput.
constexpr TensorRow kOutputs[] = {{"text_output", "BYTES", kAnySize},
                                  {"finish_reason", "BYTES", kAnySize},
                                  {"num_input_tokens", "UINT32", kAnySize},
                                  {"num_output_tokens", "UINT32", kAnySize}};

// One input of a request, with its place in it for errors.
struct Input {
  const InputTensor* tensor = nullptr;
  const std::string* raw = nullptr;  // null: the elements are typed
  std::string path;                  // "inputs[2]"
};
using Inputs = std::array<Input, kNumInputs>;  // by InputIndex; those not given are null

absl::Status Refuse(const Input& input, absl::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat(input.path, ": tensor \"", input.tensor->name(), "\" ", reason));
}

// How many elements a shape of [n] or [n, 1] has.
absl::StatusOr<int64_t> NumElements(const Input& input, int64_t wanted) {
  const auto& shape = input.tensor->shape();
  const bool is_list = shape.size() == 1 || (shape.size() == 2 && shape[1] == 1);
  if (!is_list || shape[0] < 1 || (wanted != kAnySize && shape[0] != wanted)) {
    const std::string size = wanted == kAnySize ? "n" : absl::StrCat(wanted);
    return Refuse(input, absl::StrCat("has shape [", absl::StrJoin(shape, ", "), "], not [", size,
                                      "] or [", size, ", 1]"));
  }
  return shape[0];
}

absl::Status CheckTensor(const Input& input, const TensorRow& row) {
  if (input.tensor->datatype() != row.datatype) {
    return Refuse(input, absl::StrCat("has datatype \"", input.tensor->datatype(), "\", not \"",
                                      row.datatype, "\""));
  }
  if (!input.tensor->parameters().empty()) {
    return Refuse(input, "has parameters; shared memory and others are not supported");
  }
  if (input.raw != nullptr && input.tensor->has_contents()) {
    return Refuse(input, "has contents although raw_input_contents is set");
  }
  return absl::OkStatus();
}

absl::StatusOr<Inputs> FindInputs(const ModelInferRequest& request) {
  const int num_raw = request.raw_input_contents_size();
  if (num_raw != 0 && num_raw != request.inputs_size()) {
    return absl::InvalidArgumentError(absl::StrCat("raw_input_contents: ", num_raw,
                                                   " tensors, but there are ",
                                                   request.inputs_size(), " inputs"));
  }
  Inputs inputs;
  for (int i = 0; i < request.inputs_size(); ++i) {
    const Input input{&request.inputs(i), num_raw == 0 ? nullptr : &request.raw_input_contents(i),
                      absl::StrCat("inputs[", i, "]")};
    int index = 0;
    while (index < kNumInputs && input.tensor->name() != kInputs[index].name) ++index;
    if (index == kNumInputs) return Refuse(input, "is not an input of this model");
    if (inputs[index].tensor != nullptr) return Refuse(input, "is given twice");
    RETURN_IF_ERROR(CheckTensor(input, kInputs[index]));
    inputs[index] = input;
  }
  if (inputs[kTextInput].tensor == nullptr) {
    return absl::InvalidArgumentError("inputs: tensor \"text_input\" is missing");
  }
  return inputs;
}

absl::StatusOr<std::vector<std::string>> RawStrings(const Input& input, int64_t num_elements) {
  std::vector<std::string> elements;
  absl::string_view rest = *input.raw;
  while (!rest.empty() && elements.size() < num_elements) {
    uint32_t size = 0;
    if (rest.size() < sizeof(size)) break;
    std::memcpy(&size, rest.data(), sizeof(size));
    if (rest.size() - sizeof(size) < size) break;
    elements.emplace_back(rest.substr(sizeof(size), size));
    rest.remove_prefix(sizeof(size) + size);
  }
  if (!rest.empty() || elements.size() != num_elements) {
    return Refuse(input, absl::StrCat("does not hold the ", num_elements,
                                      " elements of its shape: its bytes end early or late at "
                                      "element ",
                                      elements.size()));
  }
  return elements;
}

absl::StatusOr<std::vector<std::string>> Strings(const Input& input, int64_t num_elements) {
  if (input.raw != nullptr) return RawStrings(input, num_elements);
  const auto& contents = input.tensor->contents().bytes_contents();
  if (contents.size() != num_elements) {
    return Refuse(input, absl::StrCat("has ", contents.size(), " elements in bytes_contents, not ",
                                      num_elements));
  }
  return std::vector<std::string>(contents.begin(), contents.end());
}

// A switch that may only stand where it stands anyway.
absl::Status CheckSwitch(const Input& input, bool only) {
  if (input.tensor == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(NumElements(input, 1).status());
  const auto& contents = input.tensor->contents().bool_contents();
  if (input.raw != nullptr ? input.raw->size() != 1 : contents.size() != 1) {
    return Refuse(input, "does not have one element");
  }
  const bool value = input.raw != nullptr ? (*input.raw)[0] != 0 : contents[0];
  return value == only ? absl::OkStatus()
                       : Refuse(input, absl::StrCat("may only be ", only ? "true" : "false"));
}

absl::StatusOr<std::vector<InferOutput>> WantedOutputs(const ModelInferRequest& request) {
  std::array<bool, std::size(kOutputs)> is_wanted = {};
  std::vector<InferOutput> outputs;
  for (int i = 0; i < request.outputs_size(); ++i) {
    const ModelInferRequest::InferRequestedOutputTensor& output = request.outputs(i);
    const std::string what = absl::StrCat("outputs[", i, "]: tensor \"", output.name(), "\" ");
    size_t index = 0;
    while (index < is_wanted.size() && output.name() != kOutputs[index].name) ++index;
    if (index == is_wanted.size()) {
      return absl::InvalidArgumentError(what + "is not an output of this model");
    }
    if (is_wanted[index]) return absl::InvalidArgumentError(what + "is asked for twice");
    if (!output.parameters().empty()) {
      return absl::InvalidArgumentError(
          what + "has parameters; shared memory and others are not supported");
    }
    is_wanted[index] = true;
    outputs.push_back(static_cast<InferOutput>(index));
  }
  if (!outputs.empty()) return outputs;
  for (size_t i = 0; i < std::size(kOutputs); ++i) outputs.push_back(static_cast<InferOutput>(i));
  return outputs;
}

absl::StatusOr<std::vector<std::string>> ParsePrompts(const Input& input, int64_t max_prompts) {
  ASSIGN_OR_RETURN(const int64_t num_prompts, NumElements(input, kAnySize));
  if (num_prompts > max_prompts) {
    return absl::ResourceExhaustedError(absl::StrCat(input.path, ".shape: ", num_prompts,
                                                     " prompts in tensor \"text_input\", limit ",
                                                     max_prompts, " (server.limits.infer_rows)"));
  }
  ASSIGN_OR_RETURN(std::vector<std::string> prompts, Strings(input, num_prompts));
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) return Refuse(input, absl::StrCat("is empty in element ", i));
  }
  return prompts;
}

absl::StatusOr<SamplingParams> ParseSampling(const ModelInferRequest& request, const Input& json,
                                             int32_t vocab_size) {
  v1::SamplingParams sampling;
  RETURN_IF_ERROR(ApplyInferParameters(request, sampling));
  if (json.tensor != nullptr) {
    RETURN_IF_ERROR(NumElements(json, 1).status());
    ASSIGN_OR_RETURN(const std::vector<std::string> text, Strings(json, 1));
    RETURN_IF_ERROR(ApplySamplingJson(text[0], sampling));
  }
  absl::StatusOr<SamplingParams> params = ToSamplingParams(sampling, vocab_size);
  if (params.ok()) return params;
  // What is "sampling" elsewhere are the parameters here.
  return absl::Status(
      params.status().code(),
      absl::StrCat("parameters.", absl::StripPrefix(params.status().message(), "sampling.")));
}

void AddTensor(const TensorRow& row, inference::ModelMetadataResponse::TensorMetadata& metadata) {
  metadata.set_name(row.name);
  metadata.set_datatype(row.datatype);
  metadata.add_shape(row.size);
}

uint32_t CountOf(InferOutput output, const GenerateResult& result) {
  return output == InferOutput::kNumInputTokens ? result.num_prompt_tokens
                                                : result.choices[0].tokens.size();
}

std::string TextOf(InferOutput output, const GenerateResult& result) {
  const Choice& choice = result.choices[0];
  return output == InferOutput::kText ? choice.text
                                      : std::string(FinishReasonName(choice.finish_reason));
}

void AppendRaw(uint32_t number, std::string& raw) {
  char bytes[sizeof(number)];
  std::memcpy(bytes, &number, sizeof(number));
  raw.append(bytes, sizeof(number));
}

}  // namespace

absl::Status CheckModel(const std::string& name, const std::string& version,
                        const std::string& served_name) {
  if (name != served_name) {
    return absl::NotFoundError(
        absl::StrCat("model \"", name, "\" is not served here, \"", served_name, "\" is"));
  }
  if (!version.empty() && version != kModelVersion) {
    return absl::NotFoundError(absl::StrCat("model \"", name, "\" has no version \"", version,
                                            "\", only \"", kModelVersion, "\""));
  }
  return absl::OkStatus();
}

absl::StatusOr<InferRequest> ParseInferRequest(const ModelInferRequest& request, int32_t vocab_size,
                                               int64_t max_prompts) {
  ASSIGN_OR_RETURN(const Inputs inputs, FindInputs(request));
  InferRequest parsed;
  ASSIGN_OR_RETURN(parsed.prompts, ParsePrompts(inputs[kTextInput], max_prompts));
  const auto& shape = inputs[kTextInput].tensor->shape();
  parsed.shape.assign(shape.begin(), shape.end());
  RETURN_IF_ERROR(CheckSwitch(inputs[kStream], false));
  RETURN_IF_ERROR(CheckSwitch(inputs[kExcludeInput], true));
  ASSIGN_OR_RETURN(parsed.sampling,
                   ParseSampling(request, inputs[kSamplingParameters], vocab_size));
  ASSIGN_OR_RETURN(parsed.outputs, WantedOutputs(request));
  parsed.is_raw = request.raw_input_contents_size() > 0;
  return parsed;
}

void FillOutputs(const InferRequest& request, absl::Span<const GenerateResult> results,
                 inference::ModelInferResponse& response) {
  for (const InferOutput output : request.outputs) {
    const TensorRow& row = kOutputs[static_cast<int>(output)];
    inference::ModelInferResponse::InferOutputTensor& tensor = *response.add_outputs();
    tensor.set_name(row.name);
    tensor.set_datatype(row.datatype);
    tensor.mutable_shape()->Add(request.shape.begin(), request.shape.end());
    const bool is_text = output == InferOutput::kText || output == InferOutput::kFinishReason;
    std::string raw;
    for (const GenerateResult& result : results) {
      std::string text = is_text ? TextOf(output, result) : "";
      if (!request.is_raw) {
        inference::InferTensorContents& contents = *tensor.mutable_contents();
        if (is_text) {
          contents.add_bytes_contents(std::move(text));
        } else {
          contents.add_uint_contents(CountOf(output, result));
        }
        continue;
      }
      AppendRaw(is_text ? text.size() : CountOf(output, result), raw);
      raw += text;
    }
    if (request.is_raw) response.add_raw_output_contents(std::move(raw));
  }
}

void FillTensors(inference::ModelMetadataResponse& response) {
  for (const TensorRow& row : kInputs) AddTensor(row, *response.add_inputs());
  for (const TensorRow& row : kOutputs) AddTensor(row, *response.add_outputs());
}

}  // namespace moelight
