// Filters on numbers and on any value: abs, int, float, round, default, length, attr, tojson.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/json.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/operators.h"

namespace moelight::jinja {
namespace {

absl::StatusOr<Value> Abs(Runtime&, const Value& self, const Args&) {
  if (self.is_undefined()) return absl::InvalidArgumentError(self.undefined_message());
  if (self.is_float()) return Value::Float(std::abs(self.as_float()));
  if (self.is_integral()) return self.as_int() < 0 ? Negate(self) : Value::Int(self.as_int());
  return absl::InvalidArgumentError(
      absl::StrCat("bad operand type for abs(): '", self.type_name(), "'"));
}

// int(text, base) of Python; nullopt if it would raise.
std::optional<int64_t> ParseInt(absl::string_view text, int64_t base) {
  absl::string_view rest = absl::StripAsciiWhitespace(text);
  const bool negative = absl::ConsumePrefix(&rest, "-");
  if (!negative) absl::ConsumePrefix(&rest, "+");
  for (const auto& [name, value] : {std::pair("0x", 16), {"0o", 8}, {"0b", 2}}) {
    if (!absl::StartsWithIgnoreCase(rest, name) || (base != 0 && base != value)) continue;
    base = value;
    rest.remove_prefix(2);
    break;
  }
  if (base == 0) base = 10;
  if (rest.empty() || rest.front() == '_' || rest.back() == '_' || base < 2 || base > 36) {
    return std::nullopt;
  }
  int64_t value = 0;
  for (char c : rest) {
    if (c == '_') continue;
    const unsigned char lower = static_cast<unsigned char>(absl::ascii_tolower(c));
    const int64_t digit = absl::ascii_isdigit(lower)   ? lower - '0'
                          : absl::ascii_isalpha(lower) ? lower - 'a' + 10
                                                       : base;
    if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
        __builtin_add_overflow(value, digit, &value)) {
      return std::nullopt;
    }
  }
  return negative ? -value : value;
}

std::optional<double> ParseFloat(absl::string_view text) {
  double value = 0;
  // Python knows no hexadecimal floats.
  if (text.find_first_of("xX") != absl::string_view::npos) return std::nullopt;
  if (!absl::SimpleAtod(text, &value)) return std::nullopt;
  return value;
}

std::optional<int64_t> Truncated(std::optional<double> value) {
  if (!value.has_value() || !(std::abs(*value) < 9e18)) return std::nullopt;
  return static_cast<int64_t>(*value);
}

absl::StatusOr<Value> ToInt(Runtime& runtime, const Value& self, const Args& args) {
  if (self.is_undefined()) return absl::InvalidArgumentError(self.undefined_message());
  ASSIGN_OR_RETURN(const int64_t base, args.Int(1, 10));
  std::optional<int64_t> value;
  if (self.is_integral()) value = self.as_int();
  if (self.is_float()) value = Truncated(self.as_float());
  if (self.is_string()) {
    RETURN_IF_ERROR(runtime.meter().Scan(self.as_string().size()));
    value = ParseInt(self.as_string().view(), base);
    if (!value.has_value()) value = Truncated(ParseFloat(self.as_string().view()));
  }
  if (value.has_value()) return Value::Int(*value);
  return args.has(0) ? args[0] : Value::Int(0);
}

absl::StatusOr<Value> ToFloat(Runtime& runtime, const Value& self, const Args& args) {
  if (self.is_undefined()) return absl::InvalidArgumentError(self.undefined_message());
  if (self.is_number()) return Value::Float(self.as_float());
  if (self.is_string()) {
    RETURN_IF_ERROR(runtime.meter().Scan(self.as_string().size()));
    const std::optional<double> value = ParseFloat(self.as_string().view());
    if (value.has_value()) return Value::Float(*value);
  }
  return args.has(0) ? args[0] : Value::Float(0);
}

absl::StatusOr<Value> Round(Runtime&, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const int64_t precision, args.Int(0, 0));
  ASSIGN_OR_RETURN(const Str method, args.String(1, "common"));
  if (!self.is_number()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot round a '", self.type_name(), "'"));
  }
  const double value = self.as_float();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method.view() == "ceil") return Value::Float(std::ceil(value * scale) / scale);
  if (method.view() == "floor") return Value::Float(std::floor(value * scale) / scale);
  if (method.view() != "common") {
    return absl::InvalidArgumentError("method must be common, ceil or floor");
  }
  if (self.is_integral() && precision >= 0) return Value::Int(self.as_int());
  if (precision > 300 || std::abs(value) >= 1e15) return self;
  if (precision >= 0) {
    // Printing rounds the exact binary value half to even, which is what Python does.
    char buffer[700];
    std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(precision), value);
    return Value::Float(std::strtod(buffer, nullptr));
  }
  const double rounded = std::nearbyint(value * scale) / scale;
  return self.is_float() ? Value::Float(rounded) : Value::Int(static_cast<int64_t>(rounded));
}

absl::StatusOr<Value> Default(Runtime&, const Value& self, const Args& args) {
  const bool use_default = self.is_undefined() || (args.Bool(1, false) && !Truthy(self));
  if (!use_default) return self;
  return args.has(0) ? args[0] : Value::Literal("");
}

absl::StatusOr<Value> LengthFilter(Runtime&, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const int64_t length, Length(self));
  return Value::Int(length);
}

absl::StatusOr<Value> Attr(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Str name, args.String(0, ""));
  // Attributes only: keys of a dict are not.
  if (!self.is_dict()) return GetAttribute(runtime.meter(), self, name.view());
  if (std::optional<Value> method = FindMethod(self, name.view())) return *std::move(method);
  return Value::Undefined(absl::StrCat("'dict object' has no attribute '", name.view(), "'"));
}

absl::StatusOr<std::optional<std::string>> ReadIndent(const Args& args, int index) {
  constexpr int64_t kMaxIndent = 256;  // one level; no document needs more
  if (!args.given_not_none(index)) return std::optional<std::string>();
  if (args[index].is_string() && args[index].as_string().size() <= kMaxIndent) {
    return std::make_optional(args[index].as_string().bytes());
  }
  ASSIGN_OR_RETURN(const int64_t width, args.Int(index, 0));
  if (width > kMaxIndent) {
    return absl::InvalidArgumentError(
        absl::StrCat("tojson's indent of ", width, " is over the limit of ", kMaxIndent));
  }
  return std::make_optional(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '));
}

// Hugging Face's tojson: json.dumps with its defaults but for ensure_ascii, and no HTML escapes.
absl::StatusOr<Value> ToJson(Runtime& runtime, const Value& self, const Args& args) {
  JsonStyle style;
  style.ensure_ascii = args.Bool(0, false);
  ASSIGN_OR_RETURN(style.indent, ReadIndent(args, 1));
  style.sort_keys = args.Bool(3, false);
  if (style.indent.has_value()) style.item_separator.assign(1, ',');
  if (args.given_not_none(2)) {
    ASSIGN_OR_RETURN(const SequencePtr pair, Iterate(runtime.meter(), args[2]));
    if (pair->items.size() != 2 || !pair->items[0].is_string() || !pair->items[1].is_string()) {
      return absl::InvalidArgumentError("tojson's separators must be a pair of strings");
    }
    style.item_separator = pair->items[0].as_string().bytes();
    style.key_separator = pair->items[1].as_string().bytes();
  }
  ASSIGN_OR_RETURN(Str text, DumpJson(runtime.meter(), self, style));
  return Value::String(std::move(text));
}

constexpr Builtin kValueFilters[] = {
    {"abs", {}, 0, Abs},
    {"attr", {"name"}, 1, Attr},
    {"count", {}, 0, LengthFilter},
    {"d", {"default_value", "boolean"}, 0, Default},
    {"default", {"default_value", "boolean"}, 0, Default},
    {"float", {"default"}, 0, ToFloat},
    {"int", {"default", "base"}, 0, ToInt},
    {"length", {}, 0, LengthFilter},
    {"round", {"precision", "method"}, 0, Round},
    {"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, ToJson},
};

}  // namespace

absl::Span<const Builtin> ValueFilters() { return kValueFilters; }

}  // namespace moelight::jinja
