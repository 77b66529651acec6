// The operators of the expression language on values, with Python's semantics.
//
// Thread-safe (state is the meter's). Errors: InvalidArgument for types that do not fit, worded as
// Python words its TypeErrors; ResourceExhausted from the meter.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_OPERATORS_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_OPERATORS_H_

#include <cstdint>
#include <optional>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow, kConcat };
enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

absl::StatusOr<Value> ApplyBinary(Meter& meter, BinaryOp op, const Value& a, const Value& b);
absl::StatusOr<bool> ApplyCompare(Meter& meter, CompareOp op, const Value& a, const Value& b);
absl::StatusOr<Value> Negate(const Value& value);

bool Truthy(const Value& value);
absl::StatusOr<bool> Equal(Meter& meter, const Value& a, const Value& b);
// Is a < b? Numbers, strings, lists and tuples only.
absl::StatusOr<bool> Less(Meter& meter, const Value& a, const Value& b);
absl::StatusOr<bool> Contains(Meter& meter, const Value& container, const Value& item);
// len(value).
absl::StatusOr<int64_t> Length(const Value& value);

// a + b of strings; if one is markup, the other is escaped first.
absl::StatusOr<Str> Concat(Meter& meter, const Str& a, const Str& b);
// The text with & < > ' " replaced as HTML does, marked as markup.
absl::StatusOr<Str> EscapeHtml(Meter& meter, const Str& text);

// What `for` walks: elements, keys of a dict, characters. An iterator is used up by it.
absl::StatusOr<SequencePtr> Iterate(Meter& meter, const Value& value);

// base.name: methods first, then keys. base[key]: keys and elements first, then methods. Undefined
// if there is none; an error only if `base` is undefined itself. A slice is an error for what has
// none.
absl::StatusOr<Value> GetAttribute(Meter& meter, const Value& base, absl::string_view name);
absl::StatusOr<Value> GetItem(Meter& meter, const Value& base, const Value& key);

// base[start:stop:step]; an unset bound is the end in the direction of the step.
struct SliceBounds {
  std::optional<int64_t> start;
  std::optional<int64_t> stop;
  int64_t step = 1;
};
absl::StatusOr<Value> GetSlice(Meter& meter, const Value& base, const SliceBounds& bounds);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_OPERATORS_H_
