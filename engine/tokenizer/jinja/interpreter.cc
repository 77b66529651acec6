#include "engine/tokenizer/jinja/interpreter.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/interpreter_objects.h"

namespace moelight::jinja {

namespace {

// A recursive macro takes about three levels a call: the if around it, the output, the call. Python
// bounds the same thing with its own stack.
constexpr int kLevelsPerCall = 4;

}  // namespace

Interpreter::Interpreter(const InterpreterLimits& limits, absl::Time now)
    : max_call_depth_(limits.max_call_depth),
      max_depth_(kLevelsPerCall * limits.max_call_depth),
      now_(now),
      meter_(limits.max_steps, limits.max_value_bytes) {}

Interpreter::~Interpreter() {
  // Everything in these lists stays alive until all of it is empty, so a long chain of namespaces
  // is not freed by recursion.
  for (const auto& object : namespaces_) object->Clear();
  for (const ScopePtr& scope : macro_scopes_) scope->Clear();
}

absl::StatusOr<Str> Interpreter::Render(const Body& body, const Dict& variables) {
  scope_ = std::make_shared<Scope>(nullptr);
  for (const auto& [name, value] : variables.entries()) {
    scope_->Set(name.as_string().view(), value);
  }
  StrBuilder output(&meter_);
  out_ = &output;
  const absl::StatusOr<Flow> flow = Run(body);
  out_ = nullptr;
  if (!flow.ok()) return WithLine(flow.status());
  return output.Build();
}

absl::StatusOr<Value> Interpreter::CallFilter(absl::string_view name, const Value& subject,
                                              const Arguments& arguments) {
  RETURN_IF_ERROR(meter_.Step());
  const Builtin* filter = FindFilter(name);
  if (filter != nullptr) return filter->Call(*this, subject, arguments);
  return absl::InvalidArgumentError(absl::StrCat("No filter named ", QuoteText(name), "."));
}

absl::StatusOr<bool> Interpreter::CallTest(absl::string_view name, const Value& subject,
                                           const Arguments& arguments) {
  RETURN_IF_ERROR(meter_.Step());
  const Builtin* test = FindTest(name);
  if (test == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("No test named ", QuoteText(name), "."));
  }
  ASSIGN_OR_RETURN(const Value result, test->Call(*this, subject, arguments));
  return Truthy(result);
}

absl::StatusOr<Value> Interpreter::MakeNamespace(const Dict& attributes) {
  RETURN_IF_ERROR(meter_.Allocate(sizeof(Namespace)));
  auto object = std::make_shared<Namespace>();
  for (const auto& [key, value] : attributes.entries()) {
    if (key.is_string()) object->Set(key.as_string().view(), value);
  }
  namespaces_.push_back(object);
  return Value::Of(ObjectPtr(std::move(object)));
}

void Interpreter::NoteErrorLine(int line) {
  if (error_line_ == 0) error_line_ = line;
}

absl::Status Interpreter::WithLine(const absl::Status& status) const {
  if (raised_) return status;
  return absl::Status(status.code(),
                      absl::StrCat("chat template line ", error_line_, ": ", status.message()));
}

absl::Status Interpreter::ChargeNode() {
  if (depth_ <= max_depth_) return meter_.Step();
  return absl::ResourceExhaustedError(
      absl::StrCat("calls and expressions are nested deeper than the limit of ", max_depth_));
}

}  // namespace moelight::jinja
