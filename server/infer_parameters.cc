#include "server/infer_parameters.h"

#include <limits>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using nlohmann::json;

// The deepest there is: {"logit_bias": {"7": 1}} and {"stop": ["."]}. Whatever lies deeper is not
// built, so that a hostile text costs no memory.
constexpr int kMaxJsonDepth = 2;

absl::Status Refuse(absl::string_view path, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", reason));
}

bool ToNumber(const json& value, double* number) {
  if (value.is_string()) return absl::SimpleAtod(value.get_ref<const std::string&>(), number);
  if (!value.is_number()) return false;
  *number = value.get<double>();
  return true;
}

template <typename Integer>
bool ToInteger(const json& value, Integer* integer) {
  if (value.is_string()) return absl::SimpleAtoi(value.get_ref<const std::string&>(), integer);
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    *integer = static_cast<Integer>(number);
    return number <= static_cast<uint64_t>(std::numeric_limits<Integer>::max());
  }
  if (!value.is_number_integer()) return false;
  const int64_t number = value.get<int64_t>();
  *integer = static_cast<Integer>(number);
  if (std::numeric_limits<Integer>::min() == 0) return number >= 0;
  return number >= std::numeric_limits<int32_t>::min() &&
         number <= std::numeric_limits<int32_t>::max();
}

bool ToBool(const json& value, bool* boolean) {
  if (value.is_string()) return absl::SimpleAtob(value.get_ref<const std::string&>(), boolean);
  if (!value.is_boolean()) return false;
  *boolean = value.get<bool>();
  return true;
}

// One value of a field that has one, or one element of a list.
absl::Status SetOne(const std::string& path, const json& value, const FieldDescriptor& field,
                    Message& message) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_FLOAT: {
      double number = 0;
      if (!ToNumber(value, &number)) return Refuse(path, "not a number");
      reflection.SetFloat(&message, &field, static_cast<float>(number));
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t integer = 0;
      if (!ToInteger(value, &integer)) return Refuse(path, "not a whole number of 32 bits");
      if (field.is_repeated()) {
        reflection.AddInt32(&message, &field, integer);
      } else {
        reflection.SetInt32(&message, &field, integer);
      }
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t integer = 0;
      if (!ToInteger(value, &integer)) return Refuse(path, "not a whole number from 0");
      reflection.SetUInt64(&message, &field, integer);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool boolean = false;
      if (!ToBool(value, &boolean)) return Refuse(path, "neither true nor false");
      reflection.SetBool(&message, &field, boolean);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_STRING:
      if (!value.is_string()) return Refuse(path, "not a string");
      reflection.AddString(&message, &field, value.get<std::string>());
      return absl::OkStatus();
    default:
      return Refuse(path, "cannot be given here");
  }
}

absl::Status SetLogitBias(const std::string& path, const json& value,
                          v1::SamplingParams& sampling) {
  if (!value.is_object()) return Refuse(path, "not an object of token ids and numbers");
  for (const auto& [key, bias] : value.items()) {
    int32_t token = 0;
    double number = 0;
    if (!absl::SimpleAtoi(key, &token) || !ToNumber(bias, &number)) {
      return Refuse(path, absl::StrCat("\"", key, "\" is not a token id with a number"));
    }
    (*sampling.mutable_logit_bias())[token] = static_cast<float>(number);
  }
  return absl::OkStatus();
}

bool IsSet(const v1::SamplingParams& sampling, const FieldDescriptor& field) {
  const google::protobuf::Reflection& reflection = *sampling.GetReflection();
  return field.is_repeated() ? reflection.FieldSize(sampling, &field) > 0
                             : reflection.HasField(sampling, &field);
}

absl::Status SetParameter(absl::string_view source, const std::string& name, const json& value,
                          v1::SamplingParams& sampling) {
  const std::string path = absl::StrCat(source, ".", name);
  const FieldDescriptor* field = v1::SamplingParams::descriptor()->FindFieldByName(name);
  if (field == nullptr) return Refuse(path, "there is no such sampling parameter");
  if (name == "n" || name == "logprobs") {
    return Refuse(path, "has no place in text_output; moelight.v1.InferenceService returns it");
  }
  if (IsSet(sampling, *field)) return Refuse(path, "given twice");
  if (value.is_null()) return absl::OkStatus();  // as good as left out
  if (field->is_map()) return SetLogitBias(path, value, sampling);
  if (!field->is_repeated() || !value.is_array()) return SetOne(path, value, *field, sampling);
  for (const json& element : value) RETURN_IF_ERROR(SetOne(path, element, *field, sampling));
  return absl::OkStatus();
}

json ToJson(const inference::InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case inference::InferParameter::kBoolParam:
      return parameter.bool_param();
    case inference::InferParameter::kInt64Param:
      return parameter.int64_param();
    case inference::InferParameter::kStringParam:
      return parameter.string_param();
    case inference::InferParameter::kDoubleParam:
      return parameter.double_param();
    case inference::InferParameter::kUint64Param:
      return parameter.uint64_param();
    case inference::InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return nullptr;
}

}  // namespace

absl::Status ApplyInferParameters(const inference::ModelInferRequest& request,
                                  v1::SamplingParams& sampling) {
  for (const auto& [name, parameter] : request.parameters()) {
    RETURN_IF_ERROR(SetParameter("parameters", name, ToJson(parameter), sampling));
  }
  return absl::OkStatus();
}

absl::Status ApplySamplingJson(absl::string_view text, v1::SamplingParams& sampling) {
  constexpr char kSource[] = "sampling_parameters";
  bool is_too_deep = false;
  const json object = json::parse(
      text.begin(), text.end(),
      [&is_too_deep](int depth, json::parse_event_t event, const json&) {
        const bool opens =
            event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
        if (opens && depth >= kMaxJsonDepth) is_too_deep = true;
        return !is_too_deep;
      },
      /*allow_exceptions=*/false);
  if (is_too_deep) return Refuse(kSource, "nested too deeply");
  if (!object.is_object()) return Refuse(kSource, "not a JSON object");
  for (const auto& [name, value] : object.items()) {
    RETURN_IF_ERROR(SetParameter(kSource, name, value, sampling));
  }
  return absl::OkStatus();
}

}  // namespace moelight
