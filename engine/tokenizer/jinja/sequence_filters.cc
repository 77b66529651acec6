// Filters on sequences and mappings: joining, mapping, selecting, ordering.
#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/printing.h"
#include "engine/tokenizer/jinja/text_ops.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

using Values = std::vector<Value>;

// --- Attribute paths ----------------------------------------------------------------------------

// "a.0.b": keys and indices to follow. An integer is one index; unset follows nothing.
class AttributePath {
 public:
  static absl::StatusOr<AttributePath> Parse(const Value* attribute) {
    AttributePath path;
    if (attribute == nullptr || attribute->is_none()) return path;
    if (attribute->is_integral()) {
      path.keys_.push_back(*attribute);
      return path;
    }
    if (!attribute->is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("an attribute must be a string, not ", attribute->type_name()));
    }
    for (absl::string_view part : absl::StrSplit(attribute->as_string().view(), '.')) {
      int64_t index = 0;
      const bool digits = !part.empty() && std::all_of(part.begin(), part.end(),
                                                       [](char c) { return c >= '0' && c <= '9'; });
      path.keys_.push_back(digits && absl::SimpleAtoi(part, &index) ? Value::Int(index)
                                                                    : Value::Literal(part));
    }
    return path;
  }

  // `unset` stands in for what is not there, unless null.
  absl::StatusOr<Value> Follow(Meter& meter, Value value, const Value* unset = nullptr) const {
    for (const Value& key : keys_) {
      ASSIGN_OR_RETURN(value, GetItem(meter, value, key));
      if (unset != nullptr && value.is_undefined()) value = *unset;
    }
    return value;
  }

 private:
  Values keys_;
};

absl::StatusOr<Value> FoldCase(Meter& meter, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  ASSIGN_OR_RETURN(Str lower, MapCase(meter, value.as_string(), ToLower));
  return Value::String(std::move(lower));
}

const Value* Optional(const Args& args, int index) {
  return args.has(index) ? &args[index] : nullptr;
}

// --- Ordering -----------------------------------------------------------------------------------

struct Keyed {
  Value key;
  Value item;
};

absl::StatusOr<Value> SortKeyed(Meter& meter, std::vector<Keyed> keyed, bool reverse) {
  absl::Status error;
  const auto less = [&](const Keyed& a, const Keyed& b) {
    if (!error.ok()) return false;
    const absl::StatusOr<bool> result =
        reverse ? Less(meter, b.key, a.key) : Less(meter, a.key, b.key);
    if (!result.ok()) error = result.status();
    return result.ok() && *result;
  };
  std::stable_sort(keyed.begin(), keyed.end(), less);
  RETURN_IF_ERROR(error);
  Values items;
  items.reserve(keyed.size());
  for (Keyed& entry : keyed) items.push_back(std::move(entry.item));
  return MakeList(meter, std::move(items));
}

// `attribute` may be a list of paths, "a,b": the key is then a list.
absl::StatusOr<Value> SortKey(Meter& meter, const std::vector<AttributePath>& paths,
                              const Value& item, bool case_sensitive) {
  Values parts;
  for (const AttributePath& path : paths) {
    ASSIGN_OR_RETURN(const Value part, path.Follow(meter, item));
    ASSIGN_OR_RETURN(Value folded, FoldCase(meter, part, case_sensitive));
    parts.push_back(std::move(folded));
  }
  return MakeList(meter, std::move(parts));
}

absl::StatusOr<Value> Sort(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  const bool case_sensitive = args.Bool(1, false);
  std::vector<AttributePath> paths;
  if (args.given_not_none(2) && args[2].is_string()) {
    for (absl::string_view part : absl::StrSplit(args[2].as_string().view(), ',')) {
      const Value name = Value::Literal(part);
      ASSIGN_OR_RETURN(AttributePath path, AttributePath::Parse(&name));
      paths.push_back(std::move(path));
    }
  } else {
    ASSIGN_OR_RETURN(AttributePath path, AttributePath::Parse(Optional(args, 2)));
    paths.push_back(std::move(path));
  }
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter, self));
  std::vector<Keyed> keyed;
  keyed.reserve(items->items.size());
  for (const Value& item : items->items) {
    ASSIGN_OR_RETURN(Value key, SortKey(meter, paths, item, case_sensitive));
    keyed.push_back({std::move(key), item});
  }
  return SortKeyed(meter, std::move(keyed), args.Bool(0, false));
}

absl::StatusOr<Value> DictSort(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  if (!self.is_dict()) {
    return absl::InvalidArgumentError(
        absl::StrCat("dictsort needs a dict, not ", self.type_name()));
  }
  ASSIGN_OR_RETURN(const Str by, args.String(1, "key"));
  if (by.view() != "key" && by.view() != "value") {
    return absl::InvalidArgumentError("You can only sort by either \"key\" or \"value\"");
  }
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : self.as_dict().entries()) {
    ASSIGN_OR_RETURN(Value folded,
                     FoldCase(meter, by.view() == "key" ? key : value, args.Bool(0, false)));
    ASSIGN_OR_RETURN(Value pair, MakeTuple(meter, {key, value}));
    keyed.push_back({std::move(folded), std::move(pair)});
  }
  return SortKeyed(meter, std::move(keyed), args.Bool(2, false));
}

template <bool kMax>
absl::StatusOr<Value> Extreme(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  const bool case_sensitive = args.Bool(0, false);
  ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Parse(Optional(args, 1)));
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter, self));
  std::optional<Keyed> best;
  for (const Value& item : items->items) {
    ASSIGN_OR_RETURN(const Value followed, path.Follow(meter, item));
    ASSIGN_OR_RETURN(Value key, FoldCase(meter, followed, case_sensitive));
    if (best.has_value()) {
      ASSIGN_OR_RETURN(const bool better,
                       kMax ? Less(meter, best->key, key) : Less(meter, key, best->key));
      if (!better) continue;
    }
    best = Keyed{std::move(key), item};
  }
  if (best.has_value()) return best->item;
  return Value::Undefined("No aggregated item, sequence was empty.");
}

absl::StatusOr<Value> Unique(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  const bool case_sensitive = args.Bool(0, false);
  ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Parse(Optional(args, 1)));
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter, self));
  Dict seen;
  Values unique;
  for (const Value& item : items->items) {
    RETURN_IF_ERROR(meter.Step());
    ASSIGN_OR_RETURN(const Value followed, path.Follow(meter, item));
    ASSIGN_OR_RETURN(Value key, FoldCase(meter, followed, case_sensitive));
    if (seen.Find(key) != nullptr) continue;
    RETURN_IF_ERROR(seen.Set(std::move(key), Value()));
    unique.push_back(item);
  }
  return MakeIterator(meter, std::move(unique));
}

// --- Mapping and selecting ----------------------------------------------------------------------

// The arguments after the first `count`, which the filter itself has used.
Arguments WithoutFirst(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<int64_t>(count));
  return rest;
}

absl::StatusOr<absl::string_view> NameAt(const Arguments& arguments, size_t index,
                                         absl::string_view what) {
  if (arguments.positional[index].is_string()) {
    return arguments.positional[index].as_string().view();
  }
  return absl::InvalidArgumentError(absl::StrCat("the name of a ", what, " must be a string, not ",
                                                 arguments.positional[index].type_name()));
}

absl::StatusOr<Value> MapAttribute(Runtime& runtime, const SequencePtr& items,
                                   const Arguments& given) {
  const Value* attribute = nullptr;
  const Value* unset = nullptr;
  for (const auto& [name, value] : given.keyword) {
    if (name == "attribute") {
      attribute = &value;
    } else if (name == "default") {
      unset = value.is_none() ? nullptr : &value;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("map has no argument named '", name, "' beside attribute"));
    }
  }
  if (attribute == nullptr) return absl::InvalidArgumentError("map requires a filter argument");
  ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Parse(attribute));
  Values mapped;
  for (const Value& item : items->items) {
    ASSIGN_OR_RETURN(Value value, path.Follow(runtime.meter(), item, unset));
    mapped.push_back(std::move(value));
  }
  return MakeIterator(runtime.meter(), std::move(mapped));
}

absl::StatusOr<Value> Map(Runtime& runtime, const Value& self, const Args& args) {
  const Arguments& given = args.all();
  if (!Truthy(self)) return MakeIterator(runtime.meter(), {});
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(runtime.meter(), self));
  if (given.positional.empty()) return MapAttribute(runtime, items, given);
  ASSIGN_OR_RETURN(const absl::string_view filter, NameAt(given, 0, "filter"));
  const Arguments rest = WithoutFirst(given, 1);
  Values mapped;
  for (const Value& item : items->items) {
    ASSIGN_OR_RETURN(Value value, runtime.CallFilter(filter, item, rest));
    mapped.push_back(std::move(value));
  }
  return MakeIterator(runtime.meter(), std::move(mapped));
}

// select, reject, selectattr, rejectattr: the items whose value (or attribute) passes the test.
template <bool kWanted, bool kAttribute>
absl::StatusOr<Value> Select(Runtime& runtime, const Value& self, const Args& args) {
  const Arguments& given = args.all();
  constexpr size_t kTestAt = kAttribute ? 1 : 0;
  if (given.positional.size() < kTestAt) {
    return absl::InvalidArgumentError("Missing parameter for attribute name");
  }
  ASSIGN_OR_RETURN(const AttributePath path,
                   AttributePath::Parse(kAttribute ? given.positional.data() : nullptr));
  absl::string_view test;
  if (given.positional.size() > kTestAt) {
    ASSIGN_OR_RETURN(test, NameAt(given, kTestAt, "test"));
  }
  const Arguments rest = WithoutFirst(given, std::min(given.positional.size(), kTestAt + 1));
  if (!Truthy(self)) return MakeIterator(runtime.meter(), {});  // also for what has no items
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(runtime.meter(), self));
  Values selected;
  for (const Value& item : items->items) {
    RETURN_IF_ERROR(runtime.meter().Step());
    ASSIGN_OR_RETURN(const Value subject, path.Follow(runtime.meter(), item));
    bool passes = Truthy(subject);
    if (!test.empty()) {
      ASSIGN_OR_RETURN(passes, runtime.CallTest(test, subject, rest));
    }
    if (passes == kWanted) selected.push_back(item);
  }
  return MakeIterator(runtime.meter(), std::move(selected));
}

// --- Joining and taking apart -------------------------------------------------------------------

absl::StatusOr<Value> Join(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  Str separator;
  if (args.has(0)) {
    ASSIGN_OR_RETURN(separator, Text(meter, args[0]));
  }
  ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Parse(Optional(args, 1)));
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter, self));
  std::vector<Str> pieces;
  for (const Value& item : items->items) {
    ASSIGN_OR_RETURN(const Value value, path.Follow(meter, item));
    ASSIGN_OR_RETURN(Str piece, Text(meter, value));
    pieces.push_back(std::move(piece));
  }
  ASSIGN_OR_RETURN(Str joined, JoinPieces(meter, pieces, separator));
  return Value::String(std::move(joined));
}

absl::StatusOr<Value> First(Runtime& runtime, const Value& self, const Args&) {
  if (self.is_sequence() && self.as_sequence().kind == Sequence::Kind::kIterator) {
    const Sequence& source = self.as_sequence();
    if (source.taken < source.items.size()) return source.items[source.taken++];
  }
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(runtime.meter(), self));
  if (!items->items.empty()) return items->items.front();
  return Value::Undefined("No first item, sequence was empty.");
}

absl::StatusOr<Value> Last(Runtime& runtime, const Value& self, const Args&) {
  if (self.is_sequence() && !self.as_sequence().sized()) {
    return absl::InvalidArgumentError("'generator' object is not reversible");
  }
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(runtime.meter(), self));
  if (!items->items.empty()) return items->items.back();
  return Value::Undefined("No last item, sequence was empty.");
}

absl::StatusOr<Value> Reverse(Runtime& runtime, const Value& self, const Args&) {
  Meter& meter = runtime.meter();
  if (self.is_string()) {
    return GetSlice(meter, self, {.start = std::nullopt, .stop = std::nullopt, .step = -1});
  }
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter, self));
  return MakeIterator(meter, Values(items->items.rbegin(), items->items.rend()));
}

absl::StatusOr<Value> ToList(Runtime& runtime, const Value& self, const Args&) {
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(runtime.meter(), self));
  return MakeList(runtime.meter(), items->items);
}

absl::StatusOr<Value> Items(Runtime& runtime, const Value& self, const Args&) {
  if (self.is_undefined()) return MakeIterator(runtime.meter(), {});
  if (!self.is_dict()) {
    return absl::InvalidArgumentError("Can only get item pairs from a mapping.");
  }
  ASSIGN_OR_RETURN(const Value pairs,
                   FindBuiltin(DictMethods(), "items")->Call(runtime, self, Arguments()));
  return MakeIterator(runtime.meter(), pairs.as_sequence().items);
}

absl::StatusOr<Value> Sum(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Parse(Optional(args, 0)));
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter, self));
  Value total = args.has(1) ? args[1] : Value::Int(0);
  if (total.is_string()) return absl::InvalidArgumentError("sum() can't sum strings");
  for (const Value& item : items->items) {
    RETURN_IF_ERROR(meter.Step());
    ASSIGN_OR_RETURN(const Value value, path.Follow(meter, item));
    ASSIGN_OR_RETURN(total, ApplyBinary(meter, BinaryOp::kAdd, total, value));
  }
  return total;
}

absl::StatusOr<Value> Batch(Runtime& runtime, const Value& self, const Args& args) {
  Meter& meter = runtime.meter();
  ASSIGN_OR_RETURN(const int64_t size, args.Int(0, 1));
  if (size < 1) return absl::InvalidArgumentError("batch needs a size of at least 1");
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter, self));
  Values batches;
  Values batch;
  for (const Value& item : items->items) {
    batch.push_back(item);
    if (static_cast<int64_t>(batch.size()) < size) continue;
    ASSIGN_OR_RETURN(Value full, MakeList(meter, std::exchange(batch, {})));
    batches.push_back(std::move(full));
  }
  if (!batch.empty()) {
    if (args.given_not_none(1)) {
      RETURN_IF_ERROR(meter.Allocate(static_cast<uint64_t>(size)));
      RETURN_IF_ERROR(meter.Step(size));
      batch.resize(static_cast<size_t>(size), args[1]);
    }
    ASSIGN_OR_RETURN(Value rest, MakeList(meter, std::move(batch)));
    batches.push_back(std::move(rest));
  }
  return MakeIterator(meter, std::move(batches));
}

constexpr Builtin kSequenceFilters[] = {
    {"batch", {"linecount", "fill_with"}, 1, Batch},
    {"dictsort", {"case_sensitive", "by", "reverse"}, 0, DictSort},
    {"first", {}, 0, First},
    {"items", {}, 0, Items},
    {"join", {"d", "attribute"}, 0, Join},
    {"last", {}, 0, Last},
    {"list", {}, 0, ToList},
    {"map", {}, 0, Map, /*variadic=*/true},
    {"max", {"case_sensitive", "attribute"}, 0, Extreme<true>},
    {"min", {"case_sensitive", "attribute"}, 0, Extreme<false>},
    {"reject", {}, 0, Select<false, false>, /*variadic=*/true},
    {"rejectattr", {}, 0, Select<false, true>, /*variadic=*/true},
    {"reverse", {}, 0, Reverse},
    {"select", {}, 0, Select<true, false>, /*variadic=*/true},
    {"selectattr", {}, 0, Select<true, true>, /*variadic=*/true},
    {"sort", {"reverse", "case_sensitive", "attribute"}, 0, Sort},
    {"sum", {"attribute", "start"}, 0, Sum},
    {"unique", {"case_sensitive", "attribute"}, 0, Unique},
};

}  // namespace

absl::Span<const Builtin> SequenceFilters() { return kSequenceFilters; }

}  // namespace moelight::jinja
