#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/format.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/text_ops.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

absl::StatusOr<Value> StringOr(absl::StatusOr<Str> text) {
  if (!text.ok()) return text.status();
  return Value::String(*std::move(text));
}

absl::StatusOr<Value> ListOf(Meter& meter, absl::StatusOr<std::vector<Str>> pieces,
                             Sequence::Kind kind = Sequence::Kind::kList) {
  if (!pieces.ok()) return pieces.status();
  std::vector<Value> items;
  items.reserve(pieces->size());
  for (Str& piece : *pieces) items.push_back(Value::String(std::move(piece)));
  return MakeSequence(meter, kind, std::move(items));
}

// --- Case and character classes ---------------------------------------------------------------

template <CaseMapping kMapping>
absl::StatusOr<Value> Case(Runtime& runtime, const Value& self, const Args&) {
  return StringOr(MapCase(runtime.meter(), self.as_string(), kMapping));
}

template <bool (*kPredicate)(char32_t)>
absl::StatusOr<Value> AllChars(Runtime& runtime, const Value& self, const Args&) {
  const absl::string_view text = self.as_string().view();
  RETURN_IF_ERROR(runtime.meter().ScanChars(text.size()));
  for (size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeChar(text, i);
    if (!kPredicate(c.value)) return Value::Bool(false);
    i += c.size;
  }
  return Value::Bool(!text.empty());
}

// At least one cased character, and none of the other case.
template <bool (*kWanted)(char32_t), bool (*kOther)(char32_t)>
absl::StatusOr<Value> AllCased(Runtime& runtime, const Value& self, const Args&) {
  const absl::string_view text = self.as_string().view();
  RETURN_IF_ERROR(runtime.meter().ScanChars(text.size()));
  bool found = false;
  for (size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeChar(text, i);
    if (kOther(c.value)) return Value::Bool(false);
    found = found || kWanted(c.value);
    i += c.size;
  }
  return Value::Bool(found);
}

bool IsAscii(char32_t c) { return c < 0x80; }

absl::StatusOr<Value> IsAsciiText(Runtime& runtime, const Value& self, const Args& args) {
  if (self.as_string().empty()) return Value::Bool(true);
  return AllChars<IsAscii>(runtime, self, args);
}

// --- Strip, replace, split, join --------------------------------------------------------------

template <Side kSide>
absl::StatusOr<Value> StripMethod(Runtime& runtime, const Value& self, const Args& args) {
  if (!args.given_not_none(0)) {
    return StringOr(Strip(runtime.meter(), self.as_string(), nullptr, kSide));
  }
  ASSIGN_OR_RETURN(const Str chars, args.String(0, ""));
  return StringOr(Strip(runtime.meter(), self.as_string(), &chars, kSide));
}

absl::StatusOr<Value> ReplaceMethod(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Str from, args.String(0, ""));
  ASSIGN_OR_RETURN(const Str to, args.String(1, ""));
  ASSIGN_OR_RETURN(const int64_t count, args.Int(2, -1));
  return StringOr(Replace(runtime.meter(), self.as_string(), from, to, count));
}

template <bool kFromRight>
absl::StatusOr<Value> SplitMethod(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const int64_t max_splits, args.Int(1, -1));
  Meter& meter = runtime.meter();
  if (!args.given_not_none(0)) {
    return ListOf(meter, SplitWhitespace(meter, self.as_string(), max_splits, kFromRight));
  }
  ASSIGN_OR_RETURN(const Str separator, args.String(0, ""));
  if (separator.empty()) return absl::InvalidArgumentError("empty separator");
  return ListOf(meter, Split(meter, self.as_string(), separator, max_splits, kFromRight));
}

absl::StatusOr<Value> SplitLinesMethod(Runtime& runtime, const Value& self, const Args& args) {
  return ListOf(runtime.meter(),
                SplitLines(runtime.meter(), self.as_string(), args.Bool(0, false)));
}

template <bool kFromRight>
absl::StatusOr<Value> Partition(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Str separator, args.String(0, ""));
  if (separator.empty()) return absl::InvalidArgumentError("empty separator");
  Meter& meter = runtime.meter();
  ASSIGN_OR_RETURN(std::vector<Str> pieces,
                   Split(meter, self.as_string(), separator, 1, kFromRight));
  if (pieces.size() == 2) {
    pieces.insert(pieces.begin() + 1, separator);
  } else {
    pieces.insert(kFromRight ? pieces.begin() : pieces.end(), 2, Str());
  }
  return ListOf(meter, std::move(pieces), Sequence::Kind::kTuple);
}

absl::StatusOr<Value> JoinMethod(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(runtime.meter(), args[0]));
  std::vector<Str> pieces;
  pieces.reserve(items->items.size());
  for (const Value& item : items->items) {
    if (!item.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat("sequence item ", pieces.size(),
                                                     ": expected str instance, ", item.type_name(),
                                                     " found"));
    }
    pieces.push_back(item.as_string());
  }
  return StringOr(JoinPieces(runtime.meter(), pieces, self.as_string()));
}

// --- Search -----------------------------------------------------------------------------------

// The part of self between the optional arguments `first` and `first + 1`, and where it begins.
struct Window {
  Str text;
  int64_t start = 0;
};
absl::StatusOr<Window> ReadWindow(Runtime& runtime, const Value& self, const Args& args,
                                  int first) {
  SliceBounds bounds;
  if (args.given_not_none(first)) {
    ASSIGN_OR_RETURN(bounds.start, args.Int(first, 0));
  }
  if (args.given_not_none(first + 1)) {
    ASSIGN_OR_RETURN(bounds.stop, args.Int(first + 1, 0));
  }
  ASSIGN_OR_RETURN(const Value part, GetSlice(runtime.meter(), self, bounds));
  const int64_t size = static_cast<int64_t>(self.as_string().num_chars());
  const int64_t start = bounds.start.value_or(0);
  return Window{part.as_string(), start < 0 ? std::max<int64_t>(start + size, 0) : start};
}

template <bool kLast, bool kMustExist>
absl::StatusOr<Value> FindMethodOf(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Str part, args.String(0, ""));
  ASSIGN_OR_RETURN(const Window window, ReadWindow(runtime, self, args, 1));
  size_t at = absl::string_view::npos;
  if (window.start <= static_cast<int64_t>(self.as_string().num_chars())) {
    if constexpr (kLast) {
      ASSIGN_OR_RETURN(at, FindLastText(runtime.meter(), window.text.view(), part.view()));
    } else {
      at = FindText(window.text.view(), part.view(), 0);
    }
  }
  if (at != absl::string_view::npos) {
    const size_t chars = CountChars(window.text.view().substr(0, at));
    return Value::Int(window.start + static_cast<int64_t>(chars));
  }
  if (kMustExist) return absl::InvalidArgumentError("substring not found");
  return Value::Int(-1);
}

absl::StatusOr<Value> CountMethod(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Str part, args.String(0, ""));
  ASSIGN_OR_RETURN(const Window window, ReadWindow(runtime, self, args, 1));
  if (part.empty()) return Value::Int(static_cast<int64_t>(window.text.num_chars()) + 1);
  int64_t count = 0;
  for (size_t at = FindText(window.text.view(), part.view(), 0); at != absl::string_view::npos;
       at = FindText(window.text.view(), part.view(), at + part.size())) {
    RETURN_IF_ERROR(runtime.meter().Step());
    ++count;
  }
  return Value::Int(count);
}

bool HasAffix(absl::string_view text, absl::string_view affix, bool at_end) {
  if (affix.size() > text.size()) return false;
  return text.substr(at_end ? text.size() - affix.size() : 0, affix.size()) == affix;
}

template <bool kAtEnd>
absl::StatusOr<Value> AffixMethod(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Window window, ReadWindow(runtime, self, args, 1));
  if (args[0].is_string()) {
    return Value::Bool(HasAffix(window.text.view(), args[0].as_string().view(), kAtEnd));
  }
  const bool tuple = args[0].is_sequence() && args[0].as_sequence().kind == Sequence::Kind::kTuple;
  if (!tuple) {
    return absl::InvalidArgumentError(absl::StrCat(kAtEnd ? "endswith" : "startswith",
                                                   " first arg must be str or a tuple of str, not ",
                                                   args[0].type_name()));
  }
  RETURN_IF_ERROR(runtime.meter().Step(static_cast<int64_t>(args[0].as_sequence().items.size())));
  for (const Value& affix : args[0].as_sequence().items) {
    if (!affix.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a tuple of affixes must only contain str, not ", affix.type_name()));
    }
    if (HasAffix(window.text.view(), affix.as_string().view(), kAtEnd)) return Value::Bool(true);
  }
  return Value::Bool(false);
}

template <bool kAtEnd>
absl::StatusOr<Value> RemoveAffix(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const Str affix, args.String(0, ""));
  const Str& text = self.as_string();
  if (!HasAffix(text.view(), affix.view(), kAtEnd)) return self;
  RETURN_IF_ERROR(runtime.meter().Allocate(text.size()));
  return Value::String(kAtEnd ? text.Slice(0, text.size() - affix.size())
                              : text.Slice(affix.size(), text.size()));
}

// --- Padding and formatting -------------------------------------------------------------------

template <Side kSide>
absl::StatusOr<Value> Justify(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const int64_t width, args.Int(0, 0));
  ASSIGN_OR_RETURN(const Str fill, args.String(1, " "));
  if (fill.num_chars() != 1) {
    return absl::InvalidArgumentError("The fill character must be exactly one character long");
  }
  return StringOr(Fill(runtime.meter(), self.as_string(), width, fill, kSide));
}

absl::StatusOr<Value> ZeroFill(Runtime& runtime, const Value& self, const Args& args) {
  ASSIGN_OR_RETURN(const int64_t width, args.Int(0, 0));
  const Str& text = self.as_string();
  const size_t sign = !text.empty() && (text.view()[0] == '-' || text.view()[0] == '+') ? 1 : 0;
  ASSIGN_OR_RETURN(const Str digits,
                   Fill(runtime.meter(), text.Slice(sign, text.size()),
                        width - static_cast<int64_t>(sign), Str::Literal("0"), Side::kLeft));
  return StringOr(Concat(runtime.meter(), text.Slice(0, sign), digits));
}

absl::StatusOr<Value> FormatMethod(Runtime& runtime, const Value& self, const Args& args) {
  return StringOr(FormatBraces(runtime.meter(), self.as_string(), args.all()));
}

constexpr Builtin kStringMethods[] = {
    {"capitalize", {}, 0, Case<ToCapitalized>},
    {"casefold", {}, 0, Case<ToLower>},
    {"center", {"width", "fillchar"}, 1, Justify<Side::kBoth>},
    {"count", {"sub", "start", "end"}, 1, CountMethod},
    {"endswith", {"suffix", "start", "end"}, 1, AffixMethod<true>},
    {"find", {"sub", "start", "end"}, 1, FindMethodOf<false, false>},
    {"format", {}, 0, FormatMethod, /*variadic=*/true},
    {"index", {"sub", "start", "end"}, 1, FindMethodOf<false, true>},
    {"isalnum", {}, 0, AllChars<IsAlnum>},
    {"isalpha", {}, 0, AllChars<IsAlpha>},
    {"isascii", {}, 0, IsAsciiText},
    {"isdecimal", {}, 0, AllChars<IsDigit>},
    {"isdigit", {}, 0, AllChars<IsDigit>},
    {"islower", {}, 0, AllCased<IsLower, IsUpper>},
    {"isnumeric", {}, 0, AllChars<IsDigit>},
    {"isspace", {}, 0, AllChars<IsSpace>},
    {"isupper", {}, 0, AllCased<IsUpper, IsLower>},
    {"join", {"iterable"}, 1, JoinMethod},
    {"ljust", {"width", "fillchar"}, 1, Justify<Side::kRight>},
    {"lower", {}, 0, Case<ToLower>},
    {"lstrip", {"chars"}, 0, StripMethod<Side::kLeft>},
    {"partition", {"sep"}, 1, Partition<false>},
    {"removeprefix", {"prefix"}, 1, RemoveAffix<false>},
    {"removesuffix", {"suffix"}, 1, RemoveAffix<true>},
    {"replace", {"old", "new", "count"}, 2, ReplaceMethod},
    {"rfind", {"sub", "start", "end"}, 1, FindMethodOf<true, false>},
    {"rindex", {"sub", "start", "end"}, 1, FindMethodOf<true, true>},
    {"rjust", {"width", "fillchar"}, 1, Justify<Side::kLeft>},
    {"rpartition", {"sep"}, 1, Partition<true>},
    {"rsplit", {"sep", "maxsplit"}, 0, SplitMethod<true>},
    {"rstrip", {"chars"}, 0, StripMethod<Side::kRight>},
    {"split", {"sep", "maxsplit"}, 0, SplitMethod<false>},
    {"splitlines", {"keepends"}, 0, SplitLinesMethod},
    {"startswith", {"prefix", "start", "end"}, 1, AffixMethod<false>},
    {"strip", {"chars"}, 0, StripMethod<Side::kBoth>},
    {"swapcase", {}, 0, Case<SwapCase>},
    {"title", {}, 0, Case<ToTitle>},
    {"upper", {}, 0, Case<ToUpper>},
    {"zfill", {"width"}, 1, ZeroFill},
};

}  // namespace

absl::Span<const Builtin> StringMethods() { return kStringMethods; }

}  // namespace moelight::jinja
