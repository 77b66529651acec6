#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/json.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

std::string JsonFloat(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return FloatText(value);
}

class JsonWriter {
 public:
  JsonWriter(Meter& meter, const JsonStyle& style) : meter_(meter), style_(style) {}

  absl::Status Write(const Value& value) {
    RETURN_IF_ERROR(meter_.Step());
    if (out_.size() > static_cast<size_t>(meter_.max_value_bytes())) return meter_.ValueTooLarge();
    if (value.is_string()) return WriteString(value.as_string());
    if (value.is_dict()) return WriteDict(value.as_dict());
    if (value.is_sequence() && value.as_sequence().kind <= Sequence::Kind::kTuple) {
      return WriteList(value.as_sequence());
    }
    std::string scalar;
    if (!ScalarText(value, &scalar)) {
      return absl::InvalidArgumentError(
          absl::StrCat("Object of type ", value.type_name(), " is not JSON serializable"));
    }
    out_.append(scalar);
    return absl::OkStatus();
  }

  absl::StatusOr<Str> Finish() {
    RETURN_IF_ERROR(meter_.Allocate(out_.size()));
    return Str::Derived(std::move(out_), tainted_);
  }

 private:
  static bool ScalarText(const Value& value, std::string* out) {
    if (value.is_none()) {
      *out = "null";
    } else if (value.is_bool()) {
      *out = value.as_bool() ? "true" : "false";
    } else if (value.is_int()) {
      *out = absl::StrCat(value.as_int());
    } else if (value.is_float()) {
      *out = JsonFloat(value.as_float());
    } else {
      return false;
    }
    return true;
  }

  absl::Status WriteString(const Str& text) {
    RETURN_IF_ERROR(meter_.ScanChars(text.size()));
    tainted_ = tainted_ || text.tainted();
    out_.push_back('"');
    for (size_t i = 0; i < text.size();) {
      const DecodedChar c = DecodeChar(text.view(), i);
      WriteChar(c.value, text.view().substr(i, c.size));
      i += c.size;
    }
    out_.push_back('"');
    return absl::OkStatus();
  }

  void WriteChar(char32_t c, absl::string_view bytes) {
    switch (c) {
      case '"':
        out_.append("\\\"");
        return;
      case '\\':
        out_.append("\\\\");
        return;
      case '\n':
        out_.append("\\n");
        return;
      case '\r':
        out_.append("\\r");
        return;
      case '\t':
        out_.append("\\t");
        return;
      case '\b':
        out_.append("\\b");
        return;
      case '\f':
        out_.append("\\f");
        return;
      default:
        break;
    }
    const bool escape = c < 0x20 || (style_.ensure_ascii && c >= 0x7F);
    if (!escape) {
      out_.append(bytes.data(), bytes.size());
    } else if (c < 0x10000) {
      absl::StrAppendFormat(&out_, "\\u%04x", static_cast<uint32_t>(c));
    } else {
      const uint32_t rest = static_cast<uint32_t>(c) - 0x10000;
      absl::StrAppendFormat(&out_, "\\u%04x\\u%04x", 0xD800 + (rest >> 10),
                            0xDC00 + (rest & 0x3FF));
    }
  }

  void NewLine() {
    if (!style_.indent.has_value()) return;
    out_.push_back('\n');
    for (int i = 0; i < level_; ++i) out_.append(*style_.indent);
  }

  void Separate(bool first) {
    if (!first) out_.append(style_.item_separator);
    NewLine();
  }

  absl::Status WriteList(const Sequence& list) {
    if (list.items.empty()) {
      out_.append("[]");
      return absl::OkStatus();
    }
    out_.push_back('[');
    ++level_;
    for (size_t i = 0; i < list.items.size(); ++i) {
      Separate(i == 0);
      RETURN_IF_ERROR(Write(list.items[i]));
    }
    --level_;
    NewLine();
    out_.push_back(']');
    return absl::OkStatus();
  }

  absl::Status WriteKey(const Value& key) {
    if (key.is_string()) return WriteString(key.as_string());
    std::string text;
    ScalarText(key, &text);
    absl::StrAppend(&out_, "\"", text, "\"");
    return absl::OkStatus();
  }

  absl::Status WriteDict(const Dict& dict) {
    if (dict.size() == 0) {
      out_.append("{}");
      return absl::OkStatus();
    }
    std::vector<const Dict::Entry*> entries;
    RETURN_IF_ERROR(Order(dict, &entries));
    out_.push_back('{');
    ++level_;
    bool first = true;
    for (const Dict::Entry* entry : entries) {
      Separate(first);
      first = false;
      RETURN_IF_ERROR(WriteKey(entry->first));
      out_.append(style_.key_separator);
      RETURN_IF_ERROR(Write(entry->second));
    }
    --level_;
    NewLine();
    out_.push_back('}');
    return absl::OkStatus();
  }

  absl::Status Order(const Dict& dict, std::vector<const Dict::Entry*>* entries) {
    RETURN_IF_ERROR(meter_.Step(static_cast<int64_t>(dict.size())));
    bool strings = true;
    bool numbers = true;
    for (const Dict::Entry& entry : dict.entries()) {
      entries->push_back(&entry);
      strings = strings && entry.first.is_string();
      numbers = numbers && entry.first.is_number();
    }
    if (!style_.sort_keys) return absl::OkStatus();
    if (!strings && !numbers) {
      return absl::InvalidArgumentError("tojson cannot sort keys of different types");
    }
    std::sort(entries->begin(), entries->end(),
              [strings](const Dict::Entry* a, const Dict::Entry* b) {
                return strings ? a->first.as_string().view() < b->first.as_string().view()
                               : a->first.as_float() < b->first.as_float();
              });
    return absl::OkStatus();
  }

  Meter& meter_;
  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
  bool tainted_ = false;
};

}  // namespace

absl::StatusOr<Str> DumpJson(Meter& meter, const Value& value, const JsonStyle& style) {
  JsonWriter writer(meter, style);
  RETURN_IF_ERROR(writer.Write(value));
  return writer.Finish();
}

}  // namespace moelight::jinja
