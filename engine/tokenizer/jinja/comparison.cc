// Comparison, membership, truth and length.
#include <string.h>

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/object.h"
#include "engine/tokenizer/jinja/operators.h"

namespace moelight::jinja {
namespace {

absl::string_view Symbol(CompareOp op) {
  switch (op) {
    case CompareOp::kLt:
      return "<";
    case CompareOp::kLe:
      return "<=";
    case CompareOp::kGt:
      return ">";
    default:
      return ">=";
  }
}

absl::Status NotOrdered(CompareOp op, const Value& a, const Value& b) {
  if (a.is_undefined()) return absl::InvalidArgumentError(a.undefined_message());
  if (b.is_undefined()) return absl::InvalidArgumentError(b.undefined_message());
  return absl::InvalidArgumentError(absl::StrCat("'", Symbol(op),
                                                 "' not supported between instances of '",
                                                 a.type_name(), "' and '", b.type_name(), "'"));
}

bool SameListKind(const Value& a, const Value& b) {
  return a.is_sequence() && b.is_sequence() && a.as_sequence().kind == b.as_sequence().kind &&
         a.as_sequence().kind <= Sequence::Kind::kTuple;
}

absl::StatusOr<bool> EqualItems(Meter& meter, const Sequence& a, const Sequence& b) {
  if (a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    ASSIGN_OR_RETURN(const bool equal, Equal(meter, a.items[i], b.items[i]));
    if (!equal) return false;
  }
  return true;
}

absl::StatusOr<bool> EqualDicts(Meter& meter, const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.Find(key);
    if (other == nullptr) return false;
    ASSIGN_OR_RETURN(const bool equal, Equal(meter, value, *other));
    if (!equal) return false;
  }
  return true;
}

absl::StatusOr<bool> Ordered(Meter& meter, CompareOp op, const Value& a, const Value& b) {
  RETURN_IF_ERROR(meter.Step());
  if (a.is_integral() && b.is_integral()) {
    return op == CompareOp::kLt   ? a.as_int() < b.as_int()
           : op == CompareOp::kLe ? a.as_int() <= b.as_int()
           : op == CompareOp::kGt ? a.as_int() > b.as_int()
                                  : a.as_int() >= b.as_int();
  }
  if (a.is_number() && b.is_number()) {
    return op == CompareOp::kLt   ? a.as_float() < b.as_float()
           : op == CompareOp::kLe ? a.as_float() <= b.as_float()
           : op == CompareOp::kGt ? a.as_float() > b.as_float()
                                  : a.as_float() >= b.as_float();
  }
  if (a.is_string() && b.is_string()) {
    // UTF-8 sorts by bytes as its characters do by code point.
    RETURN_IF_ERROR(meter.Scan(std::min(a.as_string().size(), b.as_string().size())));
    const int order = a.as_string().view().compare(b.as_string().view());
    return op == CompareOp::kLt   ? order < 0
           : op == CompareOp::kLe ? order <= 0
           : op == CompareOp::kGt ? order > 0
                                  : order >= 0;
  }
  if (!SameListKind(a, b)) return NotOrdered(op, a, b);
  const std::vector<Value>& left = a.as_sequence().items;
  const std::vector<Value>& right = b.as_sequence().items;
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    ASSIGN_OR_RETURN(const bool equal, Equal(meter, left[i], right[i]));
    if (!equal) return Ordered(meter, op, left[i], right[i]);
  }
  return Ordered(meter, op, Value::Int(static_cast<int64_t>(left.size())),
                 Value::Int(static_cast<int64_t>(right.size())));
}

}  // namespace

absl::StatusOr<bool> Equal(Meter& meter, const Value& a, const Value& b) {
  RETURN_IF_ERROR(meter.Step());
  if (a.is_string() && b.is_string()) {
    if (a.as_string().size() != b.as_string().size()) return false;
    RETURN_IF_ERROR(meter.Scan(a.as_string().size()));
    return a.as_string() == b.as_string();
  }
  if (a.is_integral() && b.is_integral()) return a.as_int() == b.as_int();
  if (a.is_number() && b.is_number()) return a.as_float() == b.as_float();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (SameListKind(a, b)) return EqualItems(meter, a.as_sequence(), b.as_sequence());
  if (a.is_dict() && b.is_dict()) return EqualDicts(meter, a.as_dict(), b.as_dict());
  if (a.is_sequence() && b.is_sequence() && a.as_sequence().kind == Sequence::Kind::kRange &&
      b.as_sequence().kind == Sequence::Kind::kRange) {
    return EqualItems(meter, a.as_sequence(), b.as_sequence());
  }
  return a.SameAs(b);
}

absl::StatusOr<bool> Less(Meter& meter, const Value& a, const Value& b) {
  return Ordered(meter, CompareOp::kLt, a, b);
}

absl::StatusOr<bool> Contains(Meter& meter, const Value& container, const Value& item) {
  RETURN_IF_ERROR(meter.Step());
  if (container.is_string()) {
    if (!item.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'in <string>' requires string as left operand, not ", item.type_name()));
    }
    const absl::string_view text = container.as_string().view();
    const absl::string_view part = item.as_string().view();
    RETURN_IF_ERROR(meter.Scan(text.size()));
    // memmem, because it is linear in the worst case and std::string::find is not.
    return part.empty() || memmem(text.data(), text.size(), part.data(), part.size()) != nullptr;
  }
  if (container.is_dict()) {
    if (item.is_sequence() || item.is_dict()) {
      return absl::InvalidArgumentError(absl::StrCat("unhashable type: '", item.type_name(), "'"));
    }
    if (item.is_string()) RETURN_IF_ERROR(meter.Scan(item.as_string().size()));
    return container.as_dict().Find(item) != nullptr;
  }
  if (!container.is_sequence() && !container.is_undefined()) {
    return absl::InvalidArgumentError(
        absl::StrCat("argument of type '", container.type_name(), "' is not iterable"));
  }
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter, container));
  for (const Value& candidate : items->items) {
    ASSIGN_OR_RETURN(const bool equal, Equal(meter, candidate, item));
    if (equal) return true;
  }
  return false;
}

absl::StatusOr<bool> ApplyCompare(Meter& meter, CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::kEq:
      return Equal(meter, a, b);
    case CompareOp::kNe: {
      ASSIGN_OR_RETURN(const bool equal, Equal(meter, a, b));
      return !equal;
    }
    case CompareOp::kIn:
      return Contains(meter, b, a);
    case CompareOp::kNotIn: {
      ASSIGN_OR_RETURN(const bool contains, Contains(meter, b, a));
      return !contains;
    }
    default:
      return Ordered(meter, op, a, b);
  }
}

bool Truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_integral()) return value.as_int() != 0;
  if (value.is_float()) return value.as_float() != 0;
  if (value.is_string()) return !value.as_string().empty();
  if (value.is_dict()) return value.as_dict().size() > 0;
  if (value.is_sequence()) {
    return !value.as_sequence().sized() || !value.as_sequence().items.empty();
  }
  return true;
}

absl::StatusOr<int64_t> Length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_string()) return static_cast<int64_t>(value.as_string().num_chars());
  if (value.is_dict()) return static_cast<int64_t>(value.as_dict().size());
  if (value.is_sequence() && value.as_sequence().sized()) {
    return static_cast<int64_t>(value.as_sequence().items.size());
  }
  return absl::InvalidArgumentError(
      absl::StrCat("object of type '", value.type_name(), "' has no len()"));
}

}  // namespace moelight::jinja
