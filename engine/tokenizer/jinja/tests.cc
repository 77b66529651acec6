// The tests of `value is name`.
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/printing.h"

namespace moelight::jinja {
namespace {

template <bool (*kPredicate)(const Value&)>
absl::StatusOr<Value> Is(Runtime&, const Value& self, const Args&) {
  return Value::Bool(kPredicate(self));
}

template <CompareOp kOp>
absl::StatusOr<Value> Compare(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const bool result, ApplyCompare(runtime.meter(), kOp, self, args[0]));
  return Value::Bool(result);
}

bool IsDefined(const Value& value) { return !value.is_undefined(); }
bool IsUndefined(const Value& value) { return value.is_undefined(); }
bool IsNone(const Value& value) { return value.is_none(); }
bool IsBool(const Value& value) { return value.is_bool(); }
bool IsTrue(const Value& value) { return value.is_bool() && value.as_bool(); }
bool IsFalse(const Value& value) { return value.is_bool() && !value.as_bool(); }
bool IsInt(const Value& value) { return value.is_int(); }
bool IsFloat(const Value& value) { return value.is_float(); }
bool IsNumber(const Value& value) { return value.is_number(); }
bool IsString(const Value& value) { return value.is_string(); }
bool IsMapping(const Value& value) { return value.is_dict(); }
bool IsEscaped(const Value& value) { return value.is_string() && value.as_string().markup(); }
// An undefined value is iterable, has a length and can be called, all of it only in principle.
bool IsIterable(const Value& value) {
  return value.is_string() || value.is_sequence() || value.is_dict() || value.is_undefined();
}
bool IsSequence(const Value& value) {
  if (value.is_sequence()) return value.as_sequence().indexable();
  return value.is_string() || value.is_dict() || value.is_undefined();
}
bool IsCallable(const Value& value) {
  return value.is_undefined() || (value.is_object() && value.as_object().callable());
}
bool IsFilter(const Value& value) {
  return value.is_string() && FindFilter(value.as_string().view()) != nullptr;
}
bool IsTest(const Value& value) {
  return value.is_string() && FindTest(value.as_string().view()) != nullptr;
}

absl::StatusOr<Value> SameAs(Runtime&, const Value& self, const Args& args) {
  return Value::Bool(self.SameAs(args[0]));
}

absl::StatusOr<bool> Divides(Meter& meter, const Value& value, const Value& divisor, int64_t rest) {
  ASSIGN_OR_RETURN(const Value modulo, ApplyBinary(meter, BinaryOp::kMod, value, divisor));
  return Equal(meter, modulo, Value::Int(rest));
}

template <int64_t kRest>
absl::StatusOr<Value> Parity(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const bool result, Divides(runtime.meter(), self, Value::Int(2), kRest));
  return Value::Bool(result);
}

absl::StatusOr<Value> DivisibleBy(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const bool result, Divides(runtime.meter(), self, args[0], 0));
  return Value::Bool(result);
}

template <bool kUpper>
absl::StatusOr<Value> IsCase(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(Str text, Text(runtime.meter(), self));
  const Builtin* method = FindBuiltin(StringMethods(), kUpper ? "isupper" : "islower");
  return method->Call(runtime, Value::String(std::move(text)), Arguments());
}

absl::StatusOr<Value> In(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const bool result, Contains(runtime.meter(), args[0], self));
  return Value::Bool(result);
}

constexpr Builtin kTests[] = {
    {"!=", {"other"}, 1, Compare<CompareOp::kNe>},
    {"<", {"other"}, 1, Compare<CompareOp::kLt>},
    {"<=", {"other"}, 1, Compare<CompareOp::kLe>},
    {"==", {"other"}, 1, Compare<CompareOp::kEq>},
    {">", {"other"}, 1, Compare<CompareOp::kGt>},
    {">=", {"other"}, 1, Compare<CompareOp::kGe>},
    {"boolean", {}, 0, Is<IsBool>},
    {"callable", {}, 0, Is<IsCallable>},
    {"defined", {}, 0, Is<IsDefined>},
    {"divisibleby", {"num"}, 1, DivisibleBy},
    {"eq", {"other"}, 1, Compare<CompareOp::kEq>},
    {"equalto", {"other"}, 1, Compare<CompareOp::kEq>},
    {"escaped", {}, 0, Is<IsEscaped>},
    {"even", {}, 0, Parity<0>},
    {"false", {}, 0, Is<IsFalse>},
    {"filter", {}, 0, Is<IsFilter>},
    {"float", {}, 0, Is<IsFloat>},
    {"ge", {"other"}, 1, Compare<CompareOp::kGe>},
    {"greaterthan", {"other"}, 1, Compare<CompareOp::kGt>},
    {"gt", {"other"}, 1, Compare<CompareOp::kGt>},
    {"in", {"seq"}, 1, In},
    {"integer", {}, 0, Is<IsInt>},
    {"iterable", {}, 0, Is<IsIterable>},
    {"le", {"other"}, 1, Compare<CompareOp::kLe>},
    {"lessthan", {"other"}, 1, Compare<CompareOp::kLt>},
    {"lower", {}, 0, IsCase<false>},
    {"lt", {"other"}, 1, Compare<CompareOp::kLt>},
    {"mapping", {}, 0, Is<IsMapping>},
    {"ne", {"other"}, 1, Compare<CompareOp::kNe>},
    {"none", {}, 0, Is<IsNone>},
    {"number", {}, 0, Is<IsNumber>},
    {"odd", {}, 0, Parity<1>},
    {"sameas", {"other"}, 1, SameAs},
    {"sequence", {}, 0, Is<IsSequence>},
    {"string", {}, 0, Is<IsString>},
    {"test", {}, 0, Is<IsTest>},
    {"true", {}, 0, Is<IsTrue>},
    {"undefined", {}, 0, Is<IsUndefined>},
    {"upper", {}, 0, IsCase<true>},
};

}  // namespace

const Builtin* FindTest(absl::string_view name) { return FindBuiltin(kTests, name); }

}  // namespace moelight::jinja
