#include "engine/tokenizer/jinja/printing.h"

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/object.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

// Recursion is bounded by kMaxValueDepth, and the text by the meter: values may share parts, so
// that a small value can have a huge text.
class ReprWriter {
 public:
  explicit ReprWriter(Meter& meter) : meter_(meter) {}

  absl::Status Write(const Value& value) {
    RETURN_IF_ERROR(meter_.Step());
    if (out_.size() > static_cast<size_t>(meter_.max_value_bytes())) return meter_.ValueTooLarge();
    if (value.is_sequence()) return WriteSequence(value.as_sequence());
    if (value.is_dict()) return WriteDict(value.as_dict());
    if (value.is_string()) {
      RETURN_IF_ERROR(meter_.ScanChars(value.as_string().size()));
      tainted_ = tainted_ || value.as_string().tainted();
      const std::string quoted = QuoteText(value.as_string().view());
      out_.append(value.as_string().markup() ? absl::StrCat("Markup(", quoted, ")") : quoted);
    } else if (value.is_undefined()) {
      out_.append("Undefined");
    } else if (value.is_none()) {
      out_.append("None");
    } else if (value.is_bool()) {
      out_.append(value.as_bool() ? "True" : "False");
    } else if (value.is_int()) {
      absl::StrAppend(&out_, value.as_int());
    } else if (value.is_float()) {
      out_.append(FloatText(value.as_float()));
    } else {
      out_.append(value.as_object().Text());
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Str> Finish() {
    RETURN_IF_ERROR(meter_.Allocate(out_.size()));
    return Str::Derived(std::move(out_), tainted_);
  }

 private:
  absl::Status WriteItems(const Sequence& sequence) {
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      if (i > 0) out_.append(", ");
      RETURN_IF_ERROR(Write(sequence.items[i]));
    }
    return absl::OkStatus();
  }

  absl::Status WriteSequence(const Sequence& sequence) {
    switch (sequence.kind) {
      case Sequence::Kind::kRange:
      case Sequence::Kind::kIterator:
        out_.append(sequence.label);
        return absl::OkStatus();
      case Sequence::Kind::kTuple:
        out_.push_back('(');
        RETURN_IF_ERROR(WriteItems(sequence));
        out_.append(sequence.items.size() == 1 ? ",)" : ")");
        return absl::OkStatus();
      case Sequence::Kind::kList:
        out_.push_back('[');
        RETURN_IF_ERROR(WriteItems(sequence));
        out_.push_back(']');
        return absl::OkStatus();
      case Sequence::Kind::kDictView:
        absl::StrAppend(&out_, sequence.label, "([");
        RETURN_IF_ERROR(WriteItems(sequence));
        out_.append("])");
        return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  absl::Status WriteDict(const Dict& dict) {
    out_.push_back('{');
    bool first = true;
    for (const auto& [key, value] : dict.entries()) {
      if (!first) out_.append(", ");
      first = false;
      RETURN_IF_ERROR(Write(key));
      out_.append(": ");
      RETURN_IF_ERROR(Write(value));
    }
    out_.push_back('}');
    return absl::OkStatus();
  }

  Meter& meter_;
  std::string out_;
  bool tainted_ = false;
};

}  // namespace

absl::StatusOr<Str> Repr(Meter& meter, const Value& value) {
  ReprWriter writer(meter);
  RETURN_IF_ERROR(writer.Write(value));
  return writer.Finish();
}

absl::StatusOr<Str> Text(Meter& meter, const Value& value) {
  if (value.is_string()) return value.as_string();
  if (value.is_undefined()) return Str();
  return Repr(meter, value);
}

}  // namespace moelight::jinja
