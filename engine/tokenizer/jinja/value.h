// Value: what an expression of the template language evaluates to, with Python's types.
//
// A small handle: scalars inside, the rest behind a shared pointer. Lists, tuples and dicts never
// change once a template can see them; objects with state (namespace, loop) derive from Object.
//
// Threads: values without Objects or iterators are immutable and may be shared. Those with belong
// to one rendering. Allocates: containers and strings. Errors: MakeSequence() and Dict::Set()
// refuse nesting beyond kMaxValueDepth, so that walking a value recursively is safe.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_VALUE_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/jinja/meter.h"
#include "engine/tokenizer/jinja/str.h"

namespace moelight::jinja {

class Dict;
class Object;
struct Sequence;

using SequencePtr = std::shared_ptr<const Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

class Value {
 public:
  Value() = default;  // None

  // `message` says what is missing, for when somebody needs the value after all.
  static Value Undefined(std::string message);
  static Value Bool(bool value) { return Value(Storage(value)); }
  static Value Int(int64_t value) { return Value(Storage(value)); }
  static Value Float(double value) { return Value(Storage(value)); }
  static Value String(Str value) { return Value(Storage(std::move(value))); }
  static Value Literal(absl::string_view value);
  static Value Of(SequencePtr value) { return Value(Storage(std::move(value))); }
  static Value Of(DictPtr value) { return Value(Storage(std::move(value))); }
  static Value Of(ObjectPtr value) { return Value(Storage(std::move(value))); }

  bool is_undefined() const { return std::holds_alternative<Missing>(storage_); }
  bool is_none() const { return std::holds_alternative<None>(storage_); }
  bool is_bool() const { return std::holds_alternative<bool>(storage_); }
  bool is_int() const { return std::holds_alternative<int64_t>(storage_); }
  bool is_float() const { return std::holds_alternative<double>(storage_); }
  bool is_string() const { return std::holds_alternative<Str>(storage_); }
  bool is_sequence() const { return std::holds_alternative<SequencePtr>(storage_); }
  bool is_dict() const { return std::holds_alternative<DictPtr>(storage_); }
  bool is_object() const { return std::holds_alternative<ObjectPtr>(storage_); }
  bool is_integral() const { return is_int() || is_bool(); }  // a bool is an int, as in Python
  bool is_number() const { return is_integral() || is_float(); }

  // REQUIRES: the matching is_...() for each of these.
  const std::string& undefined_message() const { return *std::get<Missing>(storage_); }
  bool as_bool() const { return std::get<bool>(storage_); }
  int64_t as_int() const {  // of an int or a bool
    return is_bool() ? int64_t{as_bool()} : std::get<int64_t>(storage_);
  }
  double as_float() const {  // of any number
    return is_float() ? std::get<double>(storage_) : static_cast<double>(as_int());
  }
  const Str& as_string() const { return std::get<Str>(storage_); }
  const Sequence& as_sequence() const { return *std::get<SequencePtr>(storage_); }
  const SequencePtr& sequence_ptr() const { return std::get<SequencePtr>(storage_); }
  const Dict& as_dict() const { return *std::get<DictPtr>(storage_); }
  Object& as_object() const { return *std::get<ObjectPtr>(storage_); }

  absl::string_view type_name() const;  // as Python calls it: "str", "dict"
  int depth() const;                    // 0 for scalars, 1 + that of the deepest element otherwise
  bool SameAs(const Value& other) const;  // Python's `is`

 private:
  using None = std::monostate;
  using Missing = std::shared_ptr<const std::string>;
  using Storage =
      std::variant<None, Missing, bool, int64_t, double, Str, SequencePtr, DictPtr, ObjectPtr>;
  explicit Value(Storage storage) : storage_(std::move(storage)) {}

  Storage storage_;
};

// Everything that Python iterates in order, other than strings and dicts.
struct Sequence {
  enum class Kind : uint8_t {
    kList,
    kTuple,
    kRange,
    kDictView,  // d.keys(), d.values(), d.items(): has a length, but no index
    kIterator,  // map, select, reverse, ...: neither, and can be walked once
  };

  Kind kind = Kind::kList;
  std::vector<Value> items;
  std::string label;         // how a range, view or iterator prints; kDictView: before the items
  int depth = 1;             // set by MakeSequence()
  mutable size_t taken = 0;  // kIterator: items already consumed

  bool indexable() const { return kind <= Kind::kRange; }
  bool sized() const { return kind <= Kind::kDictView; }
};

// ResourceExhausted if nested too deep or too large for `meter`.
absl::StatusOr<Value> MakeSequence(Meter& meter, Sequence::Kind kind, std::vector<Value> items,
                                   std::string label = "");
inline absl::StatusOr<Value> MakeList(Meter& meter, std::vector<Value> items) {
  return MakeSequence(meter, Sequence::Kind::kList, std::move(items));
}
inline absl::StatusOr<Value> MakeTuple(Meter& meter, std::vector<Value> items) {
  return MakeSequence(meter, Sequence::Kind::kTuple, std::move(items));
}
inline absl::StatusOr<Value> MakeIterator(Meter& meter, std::vector<Value> items) {
  return MakeSequence(meter, Sequence::Kind::kIterator, std::move(items), "<generator object>");
}

// A mapping in order of insertion. Keys are strings, numbers and None, equal as in Python (1 == 1.0
// == True). Built first, then given to a Value and never changed.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  // Overwrites in place. InvalidArgument for a key of another type, ResourceExhausted if nested too
  // deep.
  absl::Status Set(Value key, Value value);
  // Null if absent, and for keys of other types.
  const Value* Find(const Value& key) const;
  const Value* Find(absl::string_view key) const;

  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }

 private:
  // Below this many entries a scan is faster than hashing, and most dicts are messages.
  static constexpr size_t kMinIndexed = 12;

  static bool EncodeKey(const Value& key, std::string* out);
  size_t IndexOf(const std::string& encoded) const;

  std::vector<Entry> entries_;
  std::vector<std::string> encoded_keys_;          // of entries_
  std::unordered_map<std::string, size_t> index_;  // encoded key to entry, from kMinIndexed on
  int depth_ = 1;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_VALUE_H_
