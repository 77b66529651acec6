#include <algorithm>
#include <cmath>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/base/hardware_fields.h"
#include "server/config_values.h"
#include "server/hardware_file.h"
#include "server/text_file.h"

namespace moelight {
namespace {

constexpr size_t kLineLength = 100;

// 55400000000 as 55.4e9, so that GB/s and TFLOP/s can be read off. Six digits.
std::string RateText(double rate) {
  if (!std::isfinite(rate) || std::abs(rate) < 1e6) return absl::StrCat(rate);
  const int exponent = static_cast<int>(std::floor(std::log10(std::abs(rate)) / 3)) * 3;
  return absl::StrCat(rate / std::pow(10.0, exponent), "e", exponent);
}

// In KiB and above only if that is exact.
std::string BytesText(int64_t bytes) {
  return bytes >= 1024 && bytes % 1024 == 0 ? FormatSize(bytes) : absl::StrCat(bytes);
}

// Sizes of a curve are counts in all but name.
std::string SizeText(double size, bool in_bytes) {
  if (std::abs(size) >= 1e15 || size != std::trunc(size)) return absl::StrCat(size);
  const int64_t whole = static_cast<int64_t>(size);
  return in_bytes ? BytesText(whole) : absl::StrCat(whole);
}

// Always in quotes, which no text can break out of.
std::string QuotedText(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&quoted, "\\", std::string(1, c));
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&quoted, "\\x%02x", c);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

// Walks the fields and appends lines. What need not be said and is not known is left out.
class Writer {
 public:
  Writer(bool has_gpu, size_t indent) : has_gpu_(has_gpu), indent_(indent) {}

  void Field(const char* name, const std::string& value, const HardwareField& field) {
    if (IsNeeded(field) || !value.empty()) Line(name, QuotedText(value));
  }

  void Field(const char* name, int64_t value, const HardwareField& field) {
    if (!IsNeeded(field) && value == static_cast<int64_t>(field.min)) return;
    Line(name, field.in_bytes ? BytesText(value) : absl::StrCat(value));
  }

  void Field(const char* name, int32_t value, const HardwareField& field) {
    Field(name, int64_t{value}, field);
  }

  void Field(const char* name, double value, const HardwareField& field) {
    if (IsNeeded(field) || value != field.min) Line(name, RateText(value));
  }

  void Field(const char* name, const RateCurve& curve, const HardwareField& field) {
    if (!IsNeeded(field) && curve.empty()) return;
    std::string text = "[";
    size_t line_begin = 0;
    const size_t first_column = indent_ + std::string(name).size() + 2;
    for (const RateCurve::Point& point : curve.points) {
      const std::string item =
          absl::StrCat("[", SizeText(point.size, field.in_bytes), ", ", RateText(point.rate), "]");
      const size_t column = text.size() - line_begin + (line_begin == 0 ? first_column : 0);
      if (text != "[" && column + item.size() + 3 > kLineLength) {
        absl::StrAppend(&text, ",\n");
        line_begin = text.size();
        absl::StrAppend(&text, std::string(first_column + 1, ' '));
      } else if (text != "[") {
        absl::StrAppend(&text, ", ");
      }
      absl::StrAppend(&text, item);
    }
    Line(name, text + "]");
  }

  template <typename Section>
  void Field(const char* name, const std::vector<Section>& sections, const HardwareField& field) {
    if (!IsNeeded(field) && sections.empty()) return;
    Line(name, sections.empty() ? "[]" : "");
    for (const Section& section : sections) {
      std::string text = TextOf(section, indent_ + 4);
      if (text.size() > indent_ + 4) text[indent_ + 2] = '-';
      absl::StrAppend(&text_, text);
    }
  }

  template <typename Section>
  requires std::is_class_v<Section>
  void Field(const char* name, const Section& section, const HardwareField& /*field*/) {
    const std::string text = TextOf(section, indent_ + 2);
    if (text.empty()) return;
    Line(name, "");
    absl::StrAppend(&text_, text);
  }

  const std::string& text() const { return text_; }

 private:
  bool IsNeeded(const HardwareField& field) const {
    return field.need == FieldNeed::kAlways || (field.need == FieldNeed::kWithGpu && has_gpu_);
  }

  template <typename Section>
  std::string TextOf(const Section& section, size_t indent) const {
    Writer writer(has_gpu_, indent);
    VisitFields(section, writer);
    return writer.text();
  }

  void Line(absl::string_view name, absl::string_view value) {
    absl::StrAppend(&text_, std::string(indent_, ' '), name, value.empty() ? ":" : ": ", value,
                    "\n");
  }

  const bool has_gpu_;
  const size_t indent_;
  std::string text_;
};

// Walks the fields and appends a comment for each: what it means.
class Legend {
 public:
  template <typename T>
  void Field(const char* name, const T& value, const HardwareField& field) {
    const std::string outer = path_;
    path_ = outer.empty() ? std::string(name) : absl::StrCat(outer, ".", name);
    Describe(value, field);
    path_ = outer;
  }

  const std::string& text() const { return text_; }

 private:
  template <typename T>
  void Describe(const T& value, const HardwareField& field) {
    constexpr bool kIsField =
        !std::is_class_v<T> || std::is_same_v<T, std::string> || std::is_same_v<T, RateCurve>;
    if constexpr (kIsField) {
      absl::StrAppendFormat(&text_, "#   %-34s %s\n", path_, field.doc);
    } else {
      VisitFields(value, *this);
    }
  }

  template <typename Section>
  void Describe(const std::vector<Section>& /*sections*/, const HardwareField& /*field*/) {
    absl::StrAppend(&path_, "[]");
    const Section section;
    VisitFields(section, *this);
  }

  std::string path_;
  std::string text_;
};

}  // namespace

std::string HardwareProfileToYaml(const HardwareProfile& profile) {
  Legend legend;
  VisitFields(profile, legend);
  Writer writer(profile.has_gpu(), 0);
  VisitFields(profile, writer);
  return absl::StrCat(
      "# What a machine can do, in rates that our kernels and copies reach, not peaks of data\n"
      "# sheets. Rates are per second, _us are microseconds; a curve is a list of [size, rate].\n",
      legend.text(), writer.text());
}

absl::Status WriteHardwareProfile(const std::string& path, const HardwareProfile& profile) {
  return WriteTextFile(path, HardwareProfileToYaml(profile));
}

}  // namespace moelight
