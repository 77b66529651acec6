#include "engine/base/hardware_profile.h"

#include <cmath>
#include <map>
#include <tuple>

#include <absl/strings/str_cat.h>

#include "engine/base/hardware_fields.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Whole numbers with all their digits, unless they are so large that nobody would write them.
std::string NumberText(double value) {
  if (std::abs(value) < 1e15 && value == std::trunc(value)) {
    return absl::StrCat(static_cast<int64_t>(value));
  }
  return absl::StrCat(value);
}

// Walks the fields and keeps the first mistake.
class Validator {
 public:
  explicit Validator(bool has_gpu) : has_gpu_(has_gpu) {}

  template <typename T>
  void Field(const char* name, const T& value, const HardwareField& field) {
    if (!status_.ok()) return;
    const std::string outer = path_;
    path_ = outer.empty() ? std::string(name) : absl::StrCat(outer, ".", name);
    Check(value, field);
    path_ = outer;
  }

  absl::Status status() const { return status_; }

 private:
  bool IsNeeded(const HardwareField& field) const {
    return field.need == FieldNeed::kAlways || (field.need == FieldNeed::kWithGpu && has_gpu_);
  }

  void Refuse(absl::string_view reason) {
    status_ = absl::InvalidArgumentError(absl::StrCat(path_, ": ", reason));
  }

  void Check(const std::string& text, const HardwareField& field) {
    if (text.empty() && IsNeeded(field)) Refuse("empty");
  }

  void Check(double value, const HardwareField& field) {
    if (!std::isfinite(value)) {
      Refuse(absl::StrCat(value, " is not a finite number"));
    } else if (IsNeeded(field) && value <= 0) {
      Refuse(absl::StrCat(NumberText(value), " is not positive"));
    } else if (value < field.min) {
      Refuse(absl::StrCat(NumberText(value), " is less than ", NumberText(field.min)));
    } else if (value > field.max) {
      Refuse(absl::StrCat(NumberText(value), " is more than ", NumberText(field.max)));
    }
  }

  void Check(const RateCurve& curve, const HardwareField& field) {
    if (curve.empty() && IsNeeded(field)) return Refuse("empty");
    CheckElements(curve.points);
    for (size_t i = 1; i < curve.points.size() && status_.ok(); ++i) {
      const double below = curve.points[i - 1].size;
      if (curve.points[i].size > below) continue;
      absl::StrAppend(&path_, "[", i, "].size");
      Refuse(absl::StrCat(NumberText(curve.points[i].size), " is not more than ", NumberText(below),
                          ", the size of the point before"));
    }
  }

  template <typename Section>
  void Check(const std::vector<Section>& sections, const HardwareField& field) {
    if (sections.empty() && IsNeeded(field)) return Refuse("empty");
    CheckElements(sections);
  }

  template <typename Section>
  requires std::is_class_v<Section>
  void Check(const Section& section, const HardwareField& /*field*/) {
    VisitFields(section, *this);
  }

  template <typename Element>
  void CheckElements(const std::vector<Element>& elements) {
    const std::string list = path_;
    for (size_t i = 0; i < elements.size() && status_.ok(); ++i) {
      path_ = absl::StrCat(list, "[", i, "]");
      VisitFields(elements[i], *this);
    }
    path_ = list;
  }

  const bool has_gpu_;
  std::string path_;  // of the field that is looked at
  absl::Status status_;
};

// Two curves for the same thing would leave open which of them counts.
template <typename Element, typename KeyOf>
absl::Status CheckDistinct(absl::string_view path, const std::vector<Element>& elements,
                           absl::string_view what, KeyOf key_of) {
  std::map<decltype(key_of(elements[0])), size_t> seen;
  for (size_t i = 0; i < elements.size(); ++i) {
    const auto [first, is_new] = seen.emplace(key_of(elements[i]), i);
    if (is_new) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, "[", i, "]: ", what, " as in ", path, "[", first->second, "]"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateHardwareProfile(const HardwareProfile& profile) {
  Validator validator(profile.has_gpu());
  VisitFields(profile, validator);
  RETURN_IF_ERROR(validator.status());
  const auto attention_key = [](const HostAttentionRate& rate) {
    return std::tuple(rate.kv_format, rate.group_size);
  };
  const auto expert_key = [](const ExpertRateCurve& curve) {
    return std::tuple(curve.hidden_size, curve.intermediate_size);
  };
  RETURN_IF_ERROR(CheckDistinct("host.attention", profile.host.attention,
                                "the same kv_format and group_size", attention_key));
  RETURN_IF_ERROR(
      CheckDistinct("host.experts", profile.host.experts, "the same sizes", expert_key));
  return CheckDistinct("gpu.experts", profile.gpu.experts, "the same sizes", expert_key);
}

}  // namespace moelight
