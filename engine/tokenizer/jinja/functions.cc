// The functions that every template can call by name.
#include <algorithm>
#include <ctime>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/printing.h"

namespace moelight::jinja {
namespace {

constexpr int64_t kMaxRange = 100000;  // Jinja's sandbox has the same

absl::StatusOr<Value> Range(Runtime& runtime, const Value&, const Args& args) {
  ASSIGN_OR_RETURN(const int64_t first, args.Int(0, 0));
  ASSIGN_OR_RETURN(const int64_t second, args.Int(1, 0));
  ASSIGN_OR_RETURN(const int64_t step, args.Int(2, 1));
  const int64_t start = args.has(1) ? first : 0;
  const int64_t stop = args.has(1) ? second : first;
  if (step == 0) return absl::InvalidArgumentError("range() arg 3 must not be zero");
  // In 128 bits, because neither the span nor the step's negative needs to fit in 64.
  const __int128 span =
      step > 0 ? static_cast<__int128>(stop) - start : static_cast<__int128>(start) - stop;
  const __int128 stride = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
  const __int128 count = span <= 0 ? 0 : (span + stride - 1) / stride;
  if (count > kMaxRange) {
    return absl::ResourceExhaustedError(
        absl::StrCat("Range too big. The sandbox blocks ranges larger than ", kMaxRange));
  }
  RETURN_IF_ERROR(runtime.meter().Step(static_cast<int64_t>(count) / 8));
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i) {
    items.push_back(Value::Int(start + i * step));
  }
  std::string label = absl::StrCat("range(", start, ", ", stop);
  if (step != 1) absl::StrAppend(&label, ", ", step);
  return MakeSequence(runtime.meter(), Sequence::Kind::kRange, std::move(items), label + ")");
}

// The entries of a mapping, of pairs, or of nothing, and then the keyword arguments.
absl::StatusOr<Dict> BuildDict(Runtime& runtime, const Arguments& given) {
  Meter& meter = runtime.meter();
  Dict dict;
  if (given.positional.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a dict takes at most 1 argument, not ", given.positional.size()));
  }
  if (!given.positional.empty() && given.positional[0].is_dict()) {
    dict = given.positional[0].as_dict();
    RETURN_IF_ERROR(meter.Step(static_cast<int64_t>(dict.size())));
  } else if (!given.positional.empty()) {
    ASSIGN_OR_RETURN(const SequencePtr pairs, Iterate(meter, given.positional[0]));
    for (const Value& item : pairs->items) {
      ASSIGN_OR_RETURN(const SequencePtr pair, Iterate(meter, item));
      if (pair->items.size() != 2) {
        return absl::InvalidArgumentError(absl::StrCat("an element of a dict has length ",
                                                       pair->items.size(), "; 2 is required"));
      }
      RETURN_IF_ERROR(meter.Step());
      RETURN_IF_ERROR(dict.Set(pair->items[0], pair->items[1]));
    }
  }
  for (const auto& [name, value] : given.keyword) {
    RETURN_IF_ERROR(dict.Set(Value::Literal(name), value));
  }
  RETURN_IF_ERROR(meter.Allocate(dict.size() * 4 * sizeof(Value)));
  return dict;
}

absl::StatusOr<Value> MakeDict(Runtime& runtime, const Value&, const Args& args) {
  ASSIGN_OR_RETURN(Dict dict, BuildDict(runtime, args.all()));
  return Value::Of(DictPtr(std::make_shared<Dict>(std::move(dict))));
}

absl::StatusOr<Value> MakeNamespace(Runtime& runtime, const Value&, const Args& args) {
  ASSIGN_OR_RETURN(const Dict attributes, BuildDict(runtime, args.all()));
  return runtime.MakeNamespace(attributes);
}

absl::StatusOr<Value> RaiseException(Runtime& runtime, const Value&, const Args& args) {
  ASSIGN_OR_RETURN(const Str message, Text(runtime.meter(), args[0]));
  runtime.MarkRaised();
  return absl::InvalidArgumentError(message.view());
}

absl::StatusOr<Value> StrftimeNow(Runtime& runtime, const Value&, const Args& args) {
  ASSIGN_OR_RETURN(const Str format, args.String(0, ""));
  if (format.empty()) return Value::Literal("");
  const std::tm time = absl::ToTM(runtime.now(), absl::LocalTimeZone());
  char buffer[512];  // no date is longer
  const size_t size = std::strftime(buffer, sizeof(buffer), format.bytes().c_str(), &time);
  if (size == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("strftime_now gives no text of up to ", sizeof(buffer) - 1, " bytes"));
  }
  return Value::String(Str::Derived(std::string(buffer, size), format.tainted()));
}

// joiner(): the empty string when first called, the separator from then on.
class Joiner : public Object {
 public:
  explicit Joiner(Str separator) : separator_(std::move(separator)) {}
  absl::string_view type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime&, const Arguments&) override {
    return Value::String(std::exchange(used_, true) ? separator_ : Str());
  }

 private:
  const Str separator_;
  bool used_ = false;
};

absl::StatusOr<Value> MakeJoiner(Runtime&, const Value&, const Args& args) {
  ASSIGN_OR_RETURN(Str separator, args.String(0, ", "));
  return Value::Of(ObjectPtr(std::make_shared<Joiner>(std::move(separator))));
}

constexpr Builtin kFunctions[] = {
    {"dict", {}, 0, MakeDict, /*variadic=*/true},
    {"joiner", {"sep"}, 0, MakeJoiner},
    {"namespace", {}, 0, MakeNamespace, /*variadic=*/true},
    {"raise_exception", {"message"}, 1, RaiseException},
    {"range", {"start", "stop", "step"}, 1, Range},
    {"strftime_now", {"format"}, 1, StrftimeNow},
};

}  // namespace

const Builtin* FindFunction(absl::string_view name) { return FindBuiltin(kFunctions, name); }

}  // namespace moelight::jinja
