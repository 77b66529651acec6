// Iteration, attributes, subscripts and slices.
#include <algorithm>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/object.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/printing.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

std::string DescribeOwner(const Value& base) {
  return base.is_none() ? "None" : absl::StrCat(base.type_name(), " object");
}

Value NoAttribute(const Value& base, absl::string_view name) {
  return Value::Undefined(
      absl::StrCat("'", DescribeOwner(base), "' has no attribute ", QuoteText(name)));
}

// A method or an object's own attribute; nullopt if there is none.
std::optional<Value> FindAttribute(const Value& base, absl::string_view name) {
  if (base.is_object()) return base.as_object().Attribute(name);
  return FindMethod(base, name);
}

absl::StatusOr<std::vector<Value>> Characters(Meter& meter, const Str& text) {
  RETURN_IF_ERROR(meter.Step(static_cast<int64_t>(text.num_chars())));
  RETURN_IF_ERROR(meter.Allocate(text.num_chars() * sizeof(Value)));
  std::vector<Value> chars;
  chars.reserve(text.num_chars());
  for (size_t i = 0; i < text.size();) {
    const size_t size = DecodeChar(text.view(), i).size;
    chars.push_back(Value::String(text.Slice(i, i + size)));
    i += size;
  }
  return chars;
}

// The element `index` counted from the end if negative; nullopt if out of range.
std::optional<size_t> ElementAt(int64_t index, size_t size) {
  const int64_t count = static_cast<int64_t>(size);
  if (index < 0) index += count;
  if (index < 0 || index >= count) return std::nullopt;
  return static_cast<size_t>(index);
}

// The element of `base` under `key`; nullopt if Python would raise a LookupError or TypeError.
absl::StatusOr<std::optional<Value>> FindItem(Meter& meter, const Value& base, const Value& key) {
  if (base.is_dict()) {
    if (key.is_string()) RETURN_IF_ERROR(meter.Scan(key.as_string().size()));
    const Value* value = base.as_dict().Find(key);
    return value == nullptr ? std::nullopt : std::make_optional(*value);
  }
  if (!key.is_integral()) return std::nullopt;
  if (base.is_sequence() && base.as_sequence().indexable()) {
    const std::vector<Value>& items = base.as_sequence().items;
    const std::optional<size_t> at = ElementAt(key.as_int(), items.size());
    return at.has_value() ? std::make_optional(items[*at]) : std::nullopt;
  }
  if (base.is_string()) {
    const Str& text = base.as_string();
    const std::optional<size_t> at = ElementAt(key.as_int(), text.num_chars());
    if (!at.has_value()) return std::nullopt;
    if (!text.ascii()) RETURN_IF_ERROR(meter.Scan(text.size()));
    const size_t begin = text.OffsetOfChar(*at);
    return Value::String(text.Slice(begin, begin + DecodeChar(text.view(), begin).size));
  }
  return std::nullopt;
}

// Python's rules for slice bounds: both clamped to what the step can reach.
struct Range {
  int64_t start = 0;
  int64_t count = 0;
};
Range Resolve(const SliceBounds& bounds, int64_t size) {
  const bool forward = bounds.step > 0;
  const int64_t lowest = forward ? 0 : -1;
  const int64_t highest = forward ? size : size - 1;
  const auto clamp = [&](std::optional<int64_t> bound, int64_t unset) {
    if (!bound.has_value()) return unset;
    if (*bound < 0) return *bound < -size ? lowest : std::max(lowest, *bound + size);
    return std::min(*bound, highest);
  };
  const int64_t start = clamp(bounds.start, forward ? lowest : highest);
  const int64_t stop = clamp(bounds.stop, forward ? highest : lowest);
  const int64_t span = forward ? stop - start : start - stop;
  if (span <= 0) return {start, 0};
  // The largest step magnitude that matters is `size`; more selects one element too.
  const int64_t stride = forward ? std::min(bounds.step, size) : -std::max(bounds.step, -size);
  return {start, (span + stride - 1) / stride};
}

absl::StatusOr<Value> SliceString(Meter& meter, const Str& text, const SliceBounds& bounds) {
  const Range range = Resolve(bounds, static_cast<int64_t>(text.num_chars()));
  RETURN_IF_ERROR(meter.Scan(text.size()));
  if (bounds.step == 1) {
    const size_t begin = text.OffsetOfChar(static_cast<size_t>(range.start));
    const size_t end = text.OffsetOfChar(static_cast<size_t>(range.start + range.count));
    RETURN_IF_ERROR(meter.Allocate(end - begin));
    return Value::String(text.Slice(begin, end));
  }
  ASSIGN_OR_RETURN(const std::vector<Value> chars, Characters(meter, text));
  StrBuilder builder(&meter);
  for (int64_t i = 0; i < range.count; ++i) {
    builder.Append(chars[static_cast<size_t>(range.start + i * bounds.step)].as_string());
  }
  ASSIGN_OR_RETURN(Str result, builder.Build());
  return Value::String(std::move(result));
}

}  // namespace

absl::StatusOr<SequencePtr> Iterate(Meter& meter, const Value& value) {
  auto sequence = std::make_shared<Sequence>();
  sequence->depth = std::max(1, value.depth());
  if (value.is_sequence()) {
    const Sequence& source = value.as_sequence();
    if (source.kind != Sequence::Kind::kIterator) return value.sequence_ptr();
    const size_t taken = source.taken;
    source.taken = source.items.size();
    if (taken == 0) return value.sequence_ptr();
    sequence->items.assign(source.items.begin() + static_cast<int64_t>(taken), source.items.end());
  } else if (value.is_string()) {
    ASSIGN_OR_RETURN(sequence->items, Characters(meter, value.as_string()));
  } else if (value.is_dict()) {
    RETURN_IF_ERROR(meter.Allocate(value.as_dict().size() * sizeof(Value)));
    for (const auto& entry : value.as_dict().entries()) sequence->items.push_back(entry.first);
  } else if (!value.is_undefined()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", value.type_name(), "' object is not iterable"));
  }
  return SequencePtr(std::move(sequence));
}

absl::StatusOr<Value> GetAttribute(Meter& meter, const Value& base, absl::string_view name) {
  if (base.is_undefined()) return absl::InvalidArgumentError(base.undefined_message());
  RETURN_IF_ERROR(meter.Step());
  if (std::optional<Value> found = FindAttribute(base, name)) return *std::move(found);
  if (base.is_dict()) {
    if (const Value* value = base.as_dict().Find(name)) return *value;
  }
  return NoAttribute(base, name);
}

absl::StatusOr<Value> GetItem(Meter& meter, const Value& base, const Value& key) {
  if (base.is_undefined()) return absl::InvalidArgumentError(base.undefined_message());
  RETURN_IF_ERROR(meter.Step());
  ASSIGN_OR_RETURN(std::optional<Value> item, FindItem(meter, base, key));
  if (item.has_value()) return *std::move(item);
  if (key.is_string()) {
    if (std::optional<Value> found = FindAttribute(base, key.as_string().view())) {
      return *std::move(found);
    }
    return NoAttribute(base, key.as_string().view());
  }
  ASSIGN_OR_RETURN(const Str text, Repr(meter, key));
  return Value::Undefined(absl::StrCat("'", DescribeOwner(base), "' has no element ", text.view()));
}

absl::StatusOr<Value> GetSlice(Meter& meter, const Value& base, const SliceBounds& bounds) {
  if (base.is_undefined()) return absl::InvalidArgumentError(base.undefined_message());
  if (bounds.step == 0) return absl::InvalidArgumentError("slice step cannot be zero");
  if (base.is_string()) return SliceString(meter, base.as_string(), bounds);
  if (!base.is_sequence() || !base.as_sequence().indexable()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", base.type_name(), "' object cannot be sliced"));
  }
  const Sequence& source = base.as_sequence();
  const Range range = Resolve(bounds, static_cast<int64_t>(source.items.size()));
  RETURN_IF_ERROR(meter.Step(range.count / 8));
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(range.count));
  for (int64_t i = 0; i < range.count; ++i) {
    items.push_back(source.items[static_cast<size_t>(range.start + i * bounds.step)]);
  }
  return MakeSequence(meter, source.kind, std::move(items));
}

}  // namespace moelight::jinja
