#include <algorithm>
#include <cmath>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/operators.h"

namespace moelight::jinja {
namespace {

// --- Dicts ------------------------------------------------------------------------------------

absl::StatusOr<Value> Items(Runtime& runtime, const Value& self, const Args&) {
  Meter& meter = runtime.meter();
  const auto& entries = self.as_dict().entries();
  RETURN_IF_ERROR(meter.Step(static_cast<int64_t>(entries.size())));
  std::vector<Value> pairs;
  pairs.reserve(entries.size());
  for (const auto& [key, value] : entries) {
    ASSIGN_OR_RETURN(Value pair, MakeTuple(meter, {key, value}));
    pairs.push_back(std::move(pair));
  }
  return MakeSequence(meter, Sequence::Kind::kDictView, std::move(pairs), "dict_items");
}

absl::StatusOr<Value> Keys(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const SequencePtr keys, Iterate(runtime.meter(), self));
  return MakeSequence(runtime.meter(), Sequence::Kind::kDictView, keys->items, "dict_keys");
}

absl::StatusOr<Value> Values(Runtime& runtime, const Value& self, const Args&) {
  std::vector<Value> values;
  for (const auto& entry : self.as_dict().entries()) values.push_back(entry.second);
  return MakeSequence(runtime.meter(), Sequence::Kind::kDictView, std::move(values), "dict_values");
}

absl::StatusOr<Value> Get(Runtime&, const Value& self, const Args& args) {
  if (const Value* value = self.as_dict().Find(args[0])) return *value;
  return args.has(1) ? args[1] : Value();
}

// --- Lists and tuples, and any type -----------------------------------------------------------

absl::StatusOr<Value> Copy(Runtime&, const Value& self, const Args&) { return self; }

absl::StatusOr<Value> Index(Runtime& runtime, const Value& self, const Args& args) {
  const std::vector<Value>& items = self.as_sequence().items;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const bool equal, Equal(runtime.meter(), items[i], args[0]));
    if (equal) return Value::Int(static_cast<int64_t>(i));
  }
  return absl::InvalidArgumentError(absl::StrCat("the value is not in the ", self.type_name()));
}

absl::StatusOr<Value> Count(Runtime& runtime, const Value& self, const Args& args) {
  int64_t count = 0;
  for (const Value& item : self.as_sequence().items) {
    ASSIGN_OR_RETURN(const bool equal, Equal(runtime.meter(), item, args[0]));
    count += equal;
  }
  return Value::Int(count);
}

absl::StatusOr<Value> IsInteger(Runtime&, const Value& self, const Args&) {
  return Value::Bool(std::nearbyint(self.as_float()) == self.as_float());
}

constexpr Builtin kDictMethods[] = {
    {"copy", {}, 0, Copy}, {"get", {"key", "default"}, 1, Get}, {"items", {}, 0, Items},
    {"keys", {}, 0, Keys}, {"values", {}, 0, Values},
};

constexpr Builtin kListMethods[] = {
    {"copy", {}, 0, Copy},
    {"count", {"value"}, 1, Count},
    {"index", {"value"}, 1, Index},
};

constexpr Builtin kFloatMethods[] = {
    {"is_integer", {}, 0, IsInteger},
};

constexpr absl::string_view kMutatingDictMethods[] = {"clear", "pop", "popitem", "setdefault",
                                                      "update"};
constexpr absl::string_view kMutatingListMethods[] = {"append", "clear",  "extend",  "insert",
                                                      "pop",    "remove", "reverse", "sort"};

// A method together with the value it was taken from.
class BoundMethod : public Object {
 public:
  BoundMethod(Value self, const Builtin* method) : self_(std::move(self)), method_(method) {}

  absl::string_view type_name() const override { return "builtin_function_or_method"; }
  std::string Text() const override {
    return absl::StrCat("<built-in method ", method_->name, " of ", self_.type_name(), " object>");
  }
  bool callable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime& runtime, const Arguments& arguments) override {
    return method_->Call(runtime, self_, arguments);
  }
  int depth() const override { return self_.depth() + 1; }

 private:
  const Value self_;
  const Builtin* method_;
};

struct MethodTable {
  absl::Span<const Builtin> methods;
  absl::Span<const absl::string_view> mutating;
};

MethodTable TableOf(const Value& self) {
  if (self.is_string()) return {StringMethods(), {}};
  if (self.is_dict()) return {DictMethods(), kMutatingDictMethods};
  if (self.is_float()) return {FloatMethods(), {}};
  if (self.is_sequence() && self.as_sequence().kind == Sequence::Kind::kList) {
    return {ListMethods(), kMutatingListMethods};
  }
  if (self.is_sequence() && self.as_sequence().kind == Sequence::Kind::kTuple) {
    return {ListMethods(), {}};
  }
  return {};
}

}  // namespace

absl::Span<const Builtin> DictMethods() { return kDictMethods; }
absl::Span<const Builtin> ListMethods() { return kListMethods; }
absl::Span<const Builtin> FloatMethods() { return kFloatMethods; }

std::optional<Value> FindMethod(const Value& self, absl::string_view name) {
  const MethodTable table = TableOf(self);
  if (const Builtin* method = FindBuiltin(table.methods, name)) {
    return Value::Of(ObjectPtr(std::make_shared<BoundMethod>(self, method)));
  }
  if (std::find(table.mutating.begin(), table.mutating.end(), name) != table.mutating.end()) {
    return Value::Undefined(absl::StrCat("access to attribute '", name, "' of '", self.type_name(),
                                         "' object is unsafe."));
  }
  return std::nullopt;
}

}  // namespace moelight::jinja
