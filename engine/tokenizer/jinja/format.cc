#include "engine/tokenizer/jinja/format.h"

#include <cmath>
#include <optional>
#include <string>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/printing.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

// Widths and precisions are the template's to choose; no prompt pads further.
constexpr int kMaxWidth = 4096;
constexpr int kMaxPrecision = 100;

// One conversion, as either syntax writes it.
struct Spec {
  absl::string_view fill = " ";  // one character
  char align = 0;                // '<', '>', '^', '=' (pad after the sign); 0: by type
  char sign = '-';
  bool thousands = false;
  int width = 0;
  int precision = -1;
  char type = 0;  // 0: by value
};

absl::StatusOr<int> ReadNumber(absl::string_view text, size_t* at, int limit) {
  int value = 0;
  while (*at < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[*at]))) {
    value = value * 10 + (text[(*at)++] - '0');
    if (value > limit) {
      return absl::InvalidArgumentError(
          absl::StrCat("a width or precision in a format is over the limit of ", limit));
    }
  }
  return value;
}

std::string InsertThousands(const std::string& digits) {
  const size_t whole = std::min(digits.find('.'), digits.size());
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && i < whole && (whole - i) % 3 == 0) out.push_back(',');
    out.push_back(digits[i]);
  }
  return out;
}

absl::StatusOr<std::string> FloatDigits(double magnitude, const Spec& spec) {
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  switch (spec.type) {
    case 0:
      if (spec.precision < 0) return FloatText(magnitude);
      return absl::StrFormat("%.*g", precision, magnitude);
    case 'f':
    case 'F':
      return absl::StrFormat("%.*f", precision, magnitude);
    case 'e':
      return absl::StrFormat("%.*e", precision, magnitude);
    case 'g':
      return absl::StrFormat("%.*g", precision, magnitude);
    case '%':
      return absl::StrFormat("%.*f%%", precision, magnitude * 100);
    default:
      break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("format type '", std::string(1, spec.type), "' does not fit a number"));
}

absl::StatusOr<std::string> NumberDigits(const Value& value, const Spec& spec, bool* negative) {
  const bool as_integer =
      value.is_integral() && (spec.type == 0 || absl::StrContains("dioxX", spec.type));
  if (!as_integer) {
    const double number = value.as_float();
    *negative = std::signbit(number);
    return FloatDigits(std::abs(number), spec);
  }
  const int64_t number = value.as_int();
  *negative = number < 0;
  const uint64_t magnitude =
      *negative ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
  if (spec.type == 'x') return absl::StrFormat("%x", magnitude);
  if (spec.type == 'X') return absl::StrFormat("%X", magnitude);
  if (spec.type == 'o') return absl::StrFormat("%o", magnitude);
  return absl::StrCat(magnitude);
}

void Pad(const Str& body, size_t sign_size, const Spec& spec, char default_align, StrBuilder* out) {
  const size_t width = static_cast<size_t>(spec.width);
  const size_t missing = width > body.num_chars() ? width - body.num_chars() : 0;
  const char align = spec.align == 0 ? default_align : spec.align;
  const size_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  const size_t sign = align == '=' ? sign_size : 0;
  out->Append(body, 0, sign);
  for (size_t i = 0; i < before; ++i) out->AppendLiteral(spec.fill);
  out->Append(body, sign, body.size());
  for (size_t i = before; i < missing; ++i) out->AppendLiteral(spec.fill);
}

absl::Status AppendNumber(const Value& value, const Spec& spec, StrBuilder* out) {
  bool negative = false;
  ASSIGN_OR_RETURN(std::string digits, NumberDigits(value, spec, &negative));
  if (spec.thousands) digits = InsertThousands(digits);
  const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  Pad(Str::Literal(sign + digits), sign.size(), spec, '>', out);
  return absl::OkStatus();
}

void AppendString(const Str& text, const Spec& spec, char default_align, StrBuilder* out) {
  const size_t end =
      spec.precision < 0 ? text.size() : text.OffsetOfChar(static_cast<size_t>(spec.precision));
  Pad(text.Slice(0, end), 0, spec, default_align, out);
}

// --- "%s" % x ---------------------------------------------------------------------------------

class PercentFormatter {
 public:
  PercentFormatter(Meter& meter, const Str& format, const Value& arguments)
      : meter_(meter), format_(format), arguments_(arguments), out_(&meter) {}

  absl::StatusOr<Str> Run() {
    const absl::string_view text = format_.view();
    RETURN_IF_ERROR(meter_.Scan(text.size()));
    size_t copied = 0;
    for (size_t at = text.find('%'); at != absl::string_view::npos; at = text.find('%', copied)) {
      RETURN_IF_ERROR(meter_.Step());
      out_.Append(format_, copied, at);
      ++at;
      RETURN_IF_ERROR(Convert(text, &at));
      copied = at;
    }
    out_.Append(format_, copied, text.size());
    // Python does not insist on the use of what could be a mapping, and takes a list for one.
    const bool optional = arguments_.is_undefined() || arguments_.is_dict() ||
                          (arguments_.is_sequence() && !IsTuple());
    if (next_ < NumPositional() && !optional) {
      return absl::InvalidArgumentError("not all arguments converted during string formatting");
    }
    return out_.Build();
  }

 private:
  bool IsTuple() const {
    return arguments_.is_sequence() && arguments_.as_sequence().kind == Sequence::Kind::kTuple;
  }
  size_t NumPositional() const { return IsTuple() ? arguments_.as_sequence().items.size() : 1; }

  absl::StatusOr<Value> Next() {
    if (next_ >= NumPositional()) {
      return absl::InvalidArgumentError("not enough arguments for format string");
    }
    const size_t at = next_++;
    return IsTuple() ? arguments_.as_sequence().items[at] : arguments_;
  }

  absl::StatusOr<Value> Named(absl::string_view text, size_t* at) {
    const size_t close = text.find(')', *at);
    if (close == absl::string_view::npos || !arguments_.is_dict()) {
      return absl::InvalidArgumentError("format requires a mapping");
    }
    const absl::string_view name = text.substr(*at + 1, close - *at - 1);
    *at = close + 1;
    const Value* value = arguments_.as_dict().Find(name);
    if (value != nullptr) return *value;
    return absl::InvalidArgumentError(absl::StrCat("format has no argument ", QuoteText(name)));
  }

  absl::Status Convert(absl::string_view text, size_t* at) {
    std::optional<Value> value;
    if (*at < text.size() && text[*at] == '(') {
      ASSIGN_OR_RETURN(value, Named(text, at));
    }
    Spec spec;
    for (; *at < text.size() && absl::StrContains("-+ 0#", text[*at]); ++*at) {
      if (text[*at] == '-') spec.align = '<';
      if (text[*at] == '+' || text[*at] == ' ') spec.sign = text[*at];
      if (text[*at] == '0' && spec.align == 0) {
        spec.fill = "0";
        spec.align = '=';
      }
    }
    if (spec.align == '<') spec.fill = " ";
    ASSIGN_OR_RETURN(spec.width, ReadNumber(text, at, kMaxWidth));
    if (*at < text.size() && text[*at] == '.') {
      ++*at;
      ASSIGN_OR_RETURN(spec.precision, ReadNumber(text, at, kMaxPrecision));
    }
    if (*at >= text.size()) return absl::InvalidArgumentError("incomplete format");
    spec.type = text[(*at)++];
    if (spec.type == '%') {
      out_.AppendLiteral("%");
      return absl::OkStatus();
    }
    if (!value.has_value()) {
      ASSIGN_OR_RETURN(value, Next());
    }
    return AppendValue(*value, spec);
  }

  absl::Status AppendValue(const Value& value, Spec spec) {
    if (spec.type == 's' || spec.type == 'r') {
      ASSIGN_OR_RETURN(const Str text,
                       spec.type == 's' ? Text(meter_, value) : Repr(meter_, value));
      if (spec.align == '=') spec.fill = " ";
      if (spec.align == '=') spec.align = '>';
      AppendString(text, spec, '>', &out_);
      return absl::OkStatus();
    }
    if (!absl::StrContains("diouxXfFeg", spec.type)) {
      return absl::InvalidArgumentError(
          absl::StrCat("unsupported format character '", std::string(1, spec.type), "'"));
    }
    if (!value.is_number()) {
      return absl::InvalidArgumentError(absl::StrCat("%", std::string(1, spec.type),
                                                     " format: a number is required, not ",
                                                     value.type_name()));
    }
    if (absl::StrContains("diu", spec.type)) {
      if (value.is_float() && !(std::abs(value.as_float()) < 9e18)) {
        return absl::InvalidArgumentError("cannot convert a float to an integer of 64 bits");
      }
      spec.type = 'd';
      return AppendNumber(
          Value::Int(value.is_float() ? static_cast<int64_t>(value.as_float()) : value.as_int()),
          spec, &out_);
    }
    return AppendNumber(value, spec, &out_);
  }

  Meter& meter_;
  const Str& format_;
  const Value& arguments_;
  StrBuilder out_;
  size_t next_ = 0;
};

// --- "{}".format(x) ---------------------------------------------------------------------------

bool IsAlign(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

absl::StatusOr<Spec> ParseBraceSpec(absl::string_view text) {
  Spec spec;
  size_t at = 0;
  if (!text.empty()) {
    const size_t fill_size = DecodeChar(text, 0).size;
    if (fill_size < text.size() && IsAlign(text[fill_size])) {
      spec.fill = text.substr(0, fill_size);
      spec.align = text[fill_size];
      at = fill_size + 1;
    } else if (IsAlign(text[0])) {
      spec.align = text[at++];
    }
  }
  if (at < text.size() && absl::StrContains("+- ", text[at])) spec.sign = text[at++];
  if (at < text.size() && text[at] == '0') {
    if (spec.align == 0) spec.align = '=';
    spec.fill = "0";
    ++at;
  }
  ASSIGN_OR_RETURN(spec.width, ReadNumber(text, &at, kMaxWidth));
  if (at < text.size() && text[at] == ',') {
    spec.thousands = true;
    ++at;
  }
  if (at < text.size() && text[at] == '.') {
    ++at;
    ASSIGN_OR_RETURN(spec.precision, ReadNumber(text, &at, kMaxPrecision));
  }
  if (at < text.size()) spec.type = text[at++];
  if (at == text.size()) return spec;
  return absl::InvalidArgumentError(absl::StrCat("invalid format specifier ", QuoteText(text)));
}

class BraceFormatter {
 public:
  BraceFormatter(Meter& meter, const Str& format, const Arguments& arguments)
      : meter_(meter), format_(format), arguments_(arguments), out_(&meter) {}

  absl::StatusOr<Str> Run() {
    const absl::string_view text = format_.view();
    RETURN_IF_ERROR(meter_.Scan(text.size()));
    size_t copied = 0;
    while (true) {
      const size_t at = text.find_first_of("{}", copied);
      if (at == absl::string_view::npos) break;
      RETURN_IF_ERROR(meter_.Step());
      out_.Append(format_, copied, at);
      if (at + 1 < text.size() && text[at + 1] == text[at]) {
        out_.Append(format_, at, at + 1);
        copied = at + 2;
        continue;
      }
      const size_t close = text.find('}', at);
      if (text[at] == '}' || close == absl::string_view::npos) {
        return absl::InvalidArgumentError(
            absl::StrCat("Single '", std::string(1, text[at]), "' encountered in format string"));
      }
      RETURN_IF_ERROR(Field(text.substr(at + 1, close - at - 1)));
      copied = close + 1;
    }
    out_.Append(format_, copied, text.size());
    return out_.Build();
  }

 private:
  absl::StatusOr<Value> Find(absl::string_view name) {
    size_t index = next_;
    if (name.empty()) {
      ++next_;
    } else if (!absl::SimpleAtoi(name, &index)) {
      for (const auto& [keyword, value] : arguments_.keyword) {
        if (keyword == name) return value;
      }
      return absl::InvalidArgumentError(absl::StrCat("format has no argument ", QuoteText(name)));
    }
    if (index < arguments_.positional.size()) return arguments_.positional[index];
    return absl::InvalidArgumentError(
        absl::StrCat("Replacement index ", index, " out of range for positional args tuple"));
  }

  absl::Status Field(absl::string_view field) {
    const size_t colon = std::min(field.find(':'), field.size());
    absl::string_view name = field.substr(0, colon);
    const size_t bang = name.find('!');
    const absl::string_view conversion =
        bang == absl::string_view::npos ? "" : name.substr(bang + 1);
    name = name.substr(0, bang);
    ASSIGN_OR_RETURN(Value value, Find(name));
    ASSIGN_OR_RETURN(const Spec spec,
                     ParseBraceSpec(colon < field.size() ? field.substr(colon + 1) : ""));
    if (!conversion.empty()) {
      if (conversion != "r" && conversion != "s") {
        return absl::InvalidArgumentError(
            absl::StrCat("unknown conversion specifier ", QuoteText(conversion)));
      }
      ASSIGN_OR_RETURN(Str text, conversion == "r" ? Repr(meter_, value) : Text(meter_, value));
      value = Value::String(std::move(text));
    }
    const bool plain_bool = value.is_bool() && spec.type == 0;
    if (value.is_number() && !plain_bool) return AppendNumber(value, spec, &out_);
    if (spec.type != 0 && spec.type != 's') {
      return absl::InvalidArgumentError(absl::StrCat("format code '", std::string(1, spec.type),
                                                     "' does not fit '", value.type_name(), "'"));
    }
    ASSIGN_OR_RETURN(const Str text, Text(meter_, value));
    AppendString(text, spec, '<', &out_);
    return absl::OkStatus();
  }

  Meter& meter_;
  const Str& format_;
  const Arguments& arguments_;
  StrBuilder out_;
  size_t next_ = 0;
};

}  // namespace

absl::StatusOr<Str> FormatPercent(Meter& meter, const Str& format, const Value& arguments) {
  return PercentFormatter(meter, format, arguments).Run();
}

absl::StatusOr<Str> FormatBraces(Meter& meter, const Str& format, const Arguments& arguments) {
  return BraceFormatter(meter, format, arguments).Run();
}

}  // namespace moelight::jinja
