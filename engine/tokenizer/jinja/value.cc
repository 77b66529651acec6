#include "engine/tokenizer/jinja/value.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/object.h"

namespace moelight::jinja {
namespace {

absl::Status CheckDepth(int depth) {
  if (depth <= kMaxValueDepth) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("a value is nested deeper than the limit of ", kMaxValueDepth));
}

absl::string_view SequenceTypeName(Sequence::Kind kind) {
  switch (kind) {
    case Sequence::Kind::kList:
      return "list";
    case Sequence::Kind::kTuple:
      return "tuple";
    case Sequence::Kind::kRange:
      return "range";
    case Sequence::Kind::kDictView:
      return "dict view";
    case Sequence::Kind::kIterator:
      return "generator";
  }
  return "";
}

}  // namespace

Value Value::Undefined(std::string message) {
  return Value(Storage(std::make_shared<const std::string>(std::move(message))));
}

Value Value::Literal(absl::string_view value) { return String(Str::Literal(std::string(value))); }

absl::string_view Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (is_dict()) return "dict";
  if (is_sequence()) return SequenceTypeName(as_sequence().kind);
  return as_object().type_name();
}

int Value::depth() const {
  if (is_sequence()) return as_sequence().depth;
  if (is_dict()) return as_dict().depth();
  if (is_object()) return as_object().depth();
  return 0;
}

bool Value::SameAs(const Value& other) const { return storage_ == other.storage_; }

absl::StatusOr<Value> MakeSequence(Meter& meter, Sequence::Kind kind, std::vector<Value> items,
                                   std::string label) {
  RETURN_IF_ERROR(meter.Allocate(sizeof(Sequence) + items.size() * sizeof(Value)));
  auto sequence = std::make_shared<Sequence>();
  for (const Value& item : items) sequence->depth = std::max(sequence->depth, item.depth() + 1);
  RETURN_IF_ERROR(CheckDepth(sequence->depth));
  sequence->kind = kind;
  sequence->items = std::move(items);
  sequence->label = std::move(label);
  return Value::Of(SequencePtr(std::move(sequence)));
}

bool Dict::EncodeKey(const Value& key, std::string* out) {
  if (key.is_string()) {
    *out = absl::StrCat("s", key.as_string().view());
  } else if (key.is_none()) {
    out->assign(1, 'n');
  } else if (key.is_integral()) {
    *out = absl::StrCat("i", key.as_int());
  } else if (key.is_float()) {
    const double value = key.as_float();
    const bool whole = std::nearbyint(value) == value && std::abs(value) < 9e18;
    *out = whole ? absl::StrCat("i", static_cast<int64_t>(value))
                 : absl::StrCat("f", std::bit_cast<uint64_t>(value));
  } else {
    return false;
  }
  return true;
}

size_t Dict::IndexOf(const std::string& encoded) const {
  if (entries_.size() < kMinIndexed) {
    const auto it = std::find(encoded_keys_.begin(), encoded_keys_.end(), encoded);
    return static_cast<size_t>(it - encoded_keys_.begin());
  }
  const auto it = index_.find(encoded);
  return it == index_.end() ? entries_.size() : it->second;
}

absl::Status Dict::Set(Value key, Value value) {
  std::string encoded;
  if (!EncodeKey(key, &encoded)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a dict key must be a string, a number or none, not ", key.type_name()));
  }
  depth_ = std::max(depth_, value.depth() + 1);
  RETURN_IF_ERROR(CheckDepth(depth_));
  const size_t at = IndexOf(encoded);
  if (at < entries_.size()) {
    entries_[at].second = std::move(value);
    return absl::OkStatus();
  }
  entries_.emplace_back(std::move(key), std::move(value));
  encoded_keys_.push_back(std::move(encoded));
  if (entries_.size() == kMinIndexed) {
    for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(encoded_keys_[i], i);
  } else if (entries_.size() > kMinIndexed) {
    index_.emplace(encoded_keys_.back(), at);
  }
  return absl::OkStatus();
}

const Value* Dict::Find(const Value& key) const {
  std::string encoded;
  if (!EncodeKey(key, &encoded)) return nullptr;
  const size_t at = IndexOf(encoded);
  return at < entries_.size() ? &entries_[at].second : nullptr;
}

const Value* Dict::Find(absl::string_view key) const {
  const size_t at = IndexOf(absl::StrCat("s", key));
  return at < entries_.size() ? &entries_[at].second : nullptr;
}

}  // namespace moelight::jinja
