// Filters that take text. Other values are converted to it first, as Jinja's soft_str does.
#include <algorithm>
#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/format.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/printing.h"
#include "engine/tokenizer/jinja/text_ops.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

absl::StatusOr<Value> StringOr(absl::StatusOr<Str> text) {
  if (!text.ok()) return text.status();
  return Value::String(*std::move(text));
}

absl::StatusOr<Value> ToText(Runtime& runtime, const Value& self, const Args&) {
  return StringOr(Text(runtime.meter(), self));
}

template <CaseMapping kMapping>
absl::StatusOr<Value> Case(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const Str text, Text(runtime.meter(), self));
  return StringOr(MapCase(runtime.meter(), text, kMapping));
}

// Unlike str.title(), words begin only after whitespace, - or an opening bracket.
std::string TitleWords(absl::string_view text) {
  std::string out;
  bool at_begin = true;
  for (size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeChar(text, i);
    const absl::string_view bytes = text.substr(i, c.size);
    out.append(at_begin ? ToUpper(bytes) : ToLower(bytes));
    at_begin = IsSpace(c.value) || absl::StrContains("-({[<", bytes);
    i += c.size;
  }
  return out;
}

absl::StatusOr<Value> Trim(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Str text, Text(runtime.meter(), self));
  if (!args.given_not_none(0)) {
    return StringOr(Strip(runtime.meter(), text, nullptr, Side::kBoth));
  }
  ASSIGN_OR_RETURN(const Str chars, args.String(0, ""));
  return StringOr(Strip(runtime.meter(), text, &chars, Side::kBoth));
}

absl::StatusOr<Value> ReplaceFilter(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  ASSIGN_OR_RETURN(const Str text, Text(meter, self));
  ASSIGN_OR_RETURN(const Str from, Text(meter, args[0]));
  ASSIGN_OR_RETURN(const Str to, Text(meter, args[1]));
  int64_t count = -1;
  if (args.given_not_none(2)) {
    ASSIGN_OR_RETURN(count, args.Int(2, -1));
  }
  return StringOr(Replace(meter, text, from, to, count));
}

// indent and truncate are the two that do not convert.
absl::StatusOr<Str> OnlyText(absl::string_view filter, const Value& self) {
  if (self.is_string()) return self.as_string();
  if (self.is_undefined()) return absl::InvalidArgumentError(self.undefined_message());
  return absl::InvalidArgumentError(
      absl::StrCat(filter, " needs a string, not ", self.type_name()));
}

absl::StatusOr<Value> Indent(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  Str indent;
  if (args.has(0) && args[0].is_string()) {
    indent = args[0].as_string();
  } else {
    ASSIGN_OR_RETURN(const int64_t width, args.Int(0, 4));
    ASSIGN_OR_RETURN(indent, Fill(meter, Str(), width, Str::Literal(" "), Side::kLeft));
  }
  const bool indent_first = args.Bool(1, false);
  const bool indent_blank = args.Bool(2, false);
  ASSIGN_OR_RETURN(const Str text, OnlyText("indent", self));
  ASSIGN_OR_RETURN(const Str ended, Concat(meter, text, Str::Literal("\n")));
  ASSIGN_OR_RETURN(const std::vector<Str> lines, SplitLines(meter, ended, false));
  StrBuilder builder(&meter);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) builder.AppendLiteral("\n");
    const bool wanted = i == 0 ? indent_first : indent_blank || !lines[i].empty();
    if (wanted) builder.Append(indent);
    builder.Append(lines[i]);
  }
  return StringOr(builder.Build());
}

absl::StatusOr<Value> Center(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Str text, Text(runtime.meter(), self));
  ASSIGN_OR_RETURN(const int64_t width, args.Int(0, 80));
  return StringOr(Fill(runtime.meter(), text, width, Str::Literal(" "), Side::kBoth));
}

absl::StatusOr<Value> Truncate(Runtime& runtime, const Value& self, const Args& args) {
  constexpr int64_t kDefaultLeeway = 5;  // Jinja's policy "truncate.leeway"
  Meter& meter = runtime.meter();
  ASSIGN_OR_RETURN(const Str text, OnlyText("truncate", self));
  ASSIGN_OR_RETURN(const int64_t length, args.Int(0, 255));
  ASSIGN_OR_RETURN(const Str end, args.String(2, "..."));
  int64_t leeway = kDefaultLeeway;
  if (args.given_not_none(3)) {
    ASSIGN_OR_RETURN(leeway, args.Int(3, kDefaultLeeway));
  }
  const int64_t kept = length - static_cast<int64_t>(end.num_chars());
  if (kept < 0 || leeway < 0) {
    return absl::InvalidArgumentError(absl::StrCat("truncate needs a length of at least ",
                                                   end.num_chars(), " and a leeway of at least 0"));
  }
  const int64_t num_chars = static_cast<int64_t>(text.num_chars());
  if (num_chars <= length || num_chars - length <= leeway) return Value::String(text);
  Str head = text.Slice(0, text.OffsetOfChar(static_cast<size_t>(kept)));
  if (!args.Bool(1, false)) {
    const size_t space = head.view().rfind(' ');
    if (space != absl::string_view::npos) head = head.Slice(0, space);
  }
  return StringOr(Concat(meter, head, end));
}

absl::StatusOr<Value> WordCount(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const Str text, Text(runtime.meter(), self));
  RETURN_IF_ERROR(runtime.meter().ScanChars(text.size()));
  int64_t count = 0;
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeChar(text.view(), i);
    const bool word = IsWord(c.value);
    count += word && !in_word;
    in_word = word;
    i += c.size;
  }
  return Value::Int(count);
}

absl::StatusOr<Value> Escape(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const Str text, Text(runtime.meter(), self));
  return StringOr(EscapeHtml(runtime.meter(), text));
}

absl::StatusOr<Value> ForceEscape(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const Str text, Text(runtime.meter(), self));
  return StringOr(EscapeHtml(runtime.meter(), text.AsMarkup(false)));
}

absl::StatusOr<Value> Safe(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const Str text, Text(runtime.meter(), self));
  RETURN_IF_ERROR(runtime.meter().Allocate(text.size()));
  return Value::String(text.AsMarkup(true));
}

absl::StatusOr<Value> Format(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  ASSIGN_OR_RETURN(const Str text, Text(meter, self));
  const Arguments& given = args.all();
  if (!given.keyword.empty() && !given.positional.empty()) {
    return absl::InvalidArgumentError("format takes positional or keyword arguments, but not both");
  }
  Dict named;
  for (const auto& [name, value] : given.keyword) {
    RETURN_IF_ERROR(named.Set(Value::Literal(name), value));
  }
  Value values = Value::Of(DictPtr(std::make_shared<Dict>(std::move(named))));
  if (given.keyword.empty()) {
    ASSIGN_OR_RETURN(values, MakeTuple(meter, given.positional));
  }
  return StringOr(FormatPercent(meter, text, values));
}

absl::StatusOr<Value> UrlEncode(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const Str text, Text(runtime.meter(), self));
  RETURN_IF_ERROR(runtime.meter().ScanChars(text.size()));
  std::string out;
  for (char byte : text.view()) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(byte)) || absl::StrContains("-._~/", byte)) {
      out.push_back(byte);
    } else {
      absl::StrAppendFormat(&out, "%%%02X", static_cast<unsigned char>(byte));
    }
  }
  RETURN_IF_ERROR(runtime.meter().Allocate(out.size()));
  return Value::String(Str::Derived(std::move(out), text.tainted()));
}

constexpr Builtin kStringFilters[] = {
    {"capitalize", {}, 0, Case<ToCapitalized>},
    {"center", {"width"}, 0, Center},
    {"e", {}, 0, Escape},
    {"escape", {}, 0, Escape},
    {"forceescape", {}, 0, ForceEscape},
    {"format", {}, 0, Format, /*variadic=*/true},
    {"indent", {"width", "first", "blank"}, 0, Indent},
    {"lower", {}, 0, Case<ToLower>},
    {"replace", {"old", "new", "count"}, 2, ReplaceFilter},
    {"safe", {}, 0, Safe},
    {"string", {}, 0, ToText},
    {"title", {}, 0, Case<TitleWords>},
    {"trim", {"chars"}, 0, Trim},
    {"truncate", {"length", "killwords", "end", "leeway"}, 0, Truncate},
    {"upper", {}, 0, Case<ToUpper>},
    {"urlencode", {}, 0, UrlEncode},
    {"wordcount", {}, 0, WordCount},
};

}  // namespace

absl::Span<const Builtin> StringFilters() { return kStringFilters; }

}  // namespace moelight::jinja
