// ApplyBinary and what it needs: numbers as in Python, + and * on strings and lists, ~ and %.
#include <cmath>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/format.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/printing.h"

namespace moelight::jinja {
namespace {

absl::string_view Symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "+";
    case BinaryOp::kSub:
      return "-";
    case BinaryOp::kMul:
      return "*";
    case BinaryOp::kDiv:
      return "/";
    case BinaryOp::kFloorDiv:
      return "//";
    case BinaryOp::kMod:
      return "%";
    case BinaryOp::kPow:
      return "**";
    case BinaryOp::kConcat:
      return "~";
  }
  return "";
}

absl::Status Unsupported(BinaryOp op, const Value& a, const Value& b) {
  return absl::InvalidArgumentError(absl::StrCat("unsupported operand type(s) for ", Symbol(op),
                                                 ": '", a.type_name(), "' and '", b.type_name(),
                                                 "'"));
}

absl::Status Overflow(BinaryOp op) {
  return absl::InvalidArgumentError(
      absl::StrCat("the result of ", Symbol(op), " does not fit in 64 bits"));
}

absl::Status DivisionByZero() { return absl::InvalidArgumentError("division by zero"); }

int64_t FloorDiv(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? quotient - 1 : quotient;
}

double FloatMod(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

absl::StatusOr<Value> IntPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return DivisionByZero();
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  // By squaring; the base overflows at the latest after 63 of its bits.
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) {
      return Overflow(BinaryOp::kPow);
    }
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return Overflow(BinaryOp::kPow);
  }
  return Value::Int(result);
}

absl::StatusOr<Value> IntArithmetic(BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return Overflow(op);
      return Value::Int(result);
    case BinaryOp::kSub:
      if (__builtin_sub_overflow(a, b, &result)) return Overflow(op);
      return Value::Int(result);
    case BinaryOp::kMul:
      if (__builtin_mul_overflow(a, b, &result)) return Overflow(op);
      return Value::Int(result);
    case BinaryOp::kDiv:
      if (b == 0) return DivisionByZero();
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod:
      if (b == 0) return DivisionByZero();
      if (b == -1) {  // the one quotient that can overflow
        if (op == BinaryOp::kMod) return Value::Int(0);
        return IntArithmetic(BinaryOp::kSub, 0, a);
      }
      return Value::Int(op == BinaryOp::kFloorDiv ? FloorDiv(a, b) : a - FloorDiv(a, b) * b);
    case BinaryOp::kPow:
      return IntPower(a, b);
    case BinaryOp::kConcat:
      break;
  }
  return absl::InternalError("not an arithmetic operator");
}

absl::StatusOr<Value> FloatArithmetic(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::Float(a + b);
    case BinaryOp::kSub:
      return Value::Float(a - b);
    case BinaryOp::kMul:
      return Value::Float(a * b);
    case BinaryOp::kDiv:
      if (b == 0) return DivisionByZero();
      return Value::Float(a / b);
    case BinaryOp::kFloorDiv:
      if (b == 0) return DivisionByZero();
      return Value::Float(std::floor((a - FloatMod(a, b)) / b + 0.5));
    case BinaryOp::kMod:
      if (b == 0) return DivisionByZero();
      return Value::Float(FloatMod(a, b));
    case BinaryOp::kPow:
      if (a == 0 && b < 0) return DivisionByZero();
      return Value::Float(std::pow(a, b));
    case BinaryOp::kConcat:
      break;
  }
  return absl::InternalError("not an arithmetic operator");
}

bool IsListOrTuple(const Value& value) {
  return value.is_sequence() && value.as_sequence().kind <= Sequence::Kind::kTuple;
}

absl::StatusOr<Value> Join(Meter& meter, const Sequence& a, const Sequence& b) {
  const size_t size = a.items.size() + b.items.size();
  RETURN_IF_ERROR(meter.Step(static_cast<int64_t>(size / 8)));
  std::vector<Value> items;
  items.reserve(size);
  items.insert(items.end(), a.items.begin(), a.items.end());
  items.insert(items.end(), b.items.begin(), b.items.end());
  return MakeSequence(meter, a.kind, std::move(items));
}

// Checks the size before anything is made: the count is the template's to choose.
absl::Status CheckRepeat(Meter& meter, size_t unit_bytes, int64_t count) {
  const uint64_t limit = static_cast<uint64_t>(meter.max_value_bytes());
  if (unit_bytes > 0 && static_cast<uint64_t>(count) > limit / unit_bytes) {
    return meter.ValueTooLarge();
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> Repeat(Meter& meter, const Value& value, int64_t count) {
  count = std::max<int64_t>(count, 0);
  if (value.is_string()) {
    const Str& text = value.as_string();
    RETURN_IF_ERROR(CheckRepeat(meter, text.size(), count));
    StrBuilder builder(&meter);
    if (text.empty()) return value;
    RETURN_IF_ERROR(meter.Step(count / 8));
    for (int64_t i = 0; i < count; ++i) builder.Append(text);
    ASSIGN_OR_RETURN(Str result, builder.Build());
    return Value::String(result.AsMarkup(text.markup()));
  }
  const Sequence& sequence = value.as_sequence();
  if (sequence.items.empty()) return value;
  RETURN_IF_ERROR(CheckRepeat(meter, sequence.items.size() * sizeof(Value), count));
  std::vector<Value> items;
  items.reserve(sequence.items.size() * static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return MakeSequence(meter, sequence.kind, std::move(items));
}

absl::Status UndefinedOperand(const Value& a, const Value& b) {
  return absl::InvalidArgumentError(a.is_undefined() ? a.undefined_message()
                                                     : b.undefined_message());
}

}  // namespace

absl::StatusOr<Str> EscapeHtml(Meter& meter, const Str& text) {
  if (text.markup()) return text;
  RETURN_IF_ERROR(meter.ScanChars(text.size()));
  StrBuilder builder(&meter);
  size_t copied = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    absl::string_view entity;
    switch (text.view()[i]) {
      case '&':
        entity = "&amp;";
        break;
      case '<':
        entity = "&lt;";
        break;
      case '>':
        entity = "&gt;";
        break;
      case '\'':
        entity = "&#39;";
        break;
      case '"':
        entity = "&#34;";
        break;
      default:
        continue;
    }
    builder.Append(text, copied, i);
    builder.Append(Str::Derived(std::string(entity), text.tainted()));
    copied = i + 1;
  }
  builder.Append(text, copied, text.size());
  ASSIGN_OR_RETURN(Str result, builder.Build());
  return result.AsMarkup(true);
}

absl::StatusOr<Str> Concat(Meter& meter, const Str& a, const Str& b) {
  if (a.markup() != b.markup()) {
    ASSIGN_OR_RETURN(const Str left, EscapeHtml(meter, a));
    ASSIGN_OR_RETURN(const Str right, EscapeHtml(meter, b));
    return Concat(meter, left, right);
  }
  StrBuilder builder(&meter);
  builder.Append(a);
  builder.Append(b);
  ASSIGN_OR_RETURN(Str result, builder.Build());
  return result.AsMarkup(a.markup());
}

absl::StatusOr<Value> ApplyBinary(Meter& meter, BinaryOp op, const Value& a, const Value& b) {
  if (op == BinaryOp::kConcat) {
    ASSIGN_OR_RETURN(const Str left, Text(meter, a));
    ASSIGN_OR_RETURN(const Str right, Text(meter, b));
    StrBuilder builder(&meter);  // unlike +, it never escapes: autoescape is off
    builder.Append(left);
    builder.Append(right);
    ASSIGN_OR_RETURN(Str result, builder.Build());
    return Value::String(std::move(result));
  }
  if (op == BinaryOp::kMod && a.is_string()) {
    ASSIGN_OR_RETURN(Str result, FormatPercent(meter, a.as_string(), b));
    return Value::String(std::move(result));
  }
  if (a.is_undefined() || b.is_undefined()) return UndefinedOperand(a, b);
  if (a.is_integral() && b.is_integral()) return IntArithmetic(op, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return FloatArithmetic(op, a.as_float(), b.as_float());
  if (op == BinaryOp::kAdd) {
    if (a.is_string() && b.is_string()) {
      ASSIGN_OR_RETURN(Str result, Concat(meter, a.as_string(), b.as_string()));
      return Value::String(std::move(result));
    }
    if (a.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("can only concatenate str (not \"", b.type_name(), "\") to str"));
    }
    if (IsListOrTuple(a) && IsListOrTuple(b) && a.as_sequence().kind == b.as_sequence().kind) {
      return Join(meter, a.as_sequence(), b.as_sequence());
    }
  }
  if (op == BinaryOp::kMul) {
    if ((a.is_string() || IsListOrTuple(a)) && b.is_integral()) return Repeat(meter, a, b.as_int());
    if ((b.is_string() || IsListOrTuple(b)) && a.is_integral()) return Repeat(meter, b, a.as_int());
  }
  return Unsupported(op, a, b);
}

absl::StatusOr<Value> Negate(const Value& value) {
  if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined_message());
  if (value.is_integral()) return IntArithmetic(BinaryOp::kSub, 0, value.as_int());
  if (value.is_float()) return Value::Float(-value.as_float());
  return absl::InvalidArgumentError(
      absl::StrCat("bad operand type for unary -: '", value.type_name(), "'"));
}

}  // namespace moelight::jinja
