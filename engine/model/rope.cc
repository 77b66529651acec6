#include "engine/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

constexpr double kMaxTheta = 1e15;      // the largest published is 1e11
constexpr double kMaxPositions = 1e10;  // keeps factor * positions far inside int64
constexpr double kTwoPi = 2 * std::numbers::pi;

struct RopeType {
  absl::string_view name;
  // Reads the type's own fields.
  absl::Status (*parse)(const ConfigReader& scaling, RopeConfig& rope);
  // Turns the unscaled inverse frequencies into those of the type.
  void (*scale)(const RopeConfig& rope, std::vector<double>& inv_freq);
  // max_position_embeddings of config.json to the longest context.
  double (*max_positions)(const RopeConfig& rope, double max_position_embeddings);
};

absl::Status ParseFactor(const ConfigReader& scaling, RopeConfig& rope) {
  ASSIGN_OR_RETURN(rope.factor, scaling.Number("factor", {.min = 1, .max = 1e4}));
  return absl::OkStatus();
}

absl::Status ParseOriginal(const ConfigReader& scaling, RopeConfig& rope) {
  // Absent: the caller has put max_position_embeddings there.
  ASSIGN_OR_RETURN(
      const std::optional<double> original,
      scaling.OptionalNumber("original_max_position_embeddings", {.min = 1, .max = kMaxPositions}));
  if (original.has_value()) rope.original_max_position_embeddings = *original;
  return absl::OkStatus();
}

absl::Status ParseLlama3(const ConfigReader& scaling, RopeConfig& rope) {
  RETURN_IF_ERROR(ParseFactor(scaling, rope));
  RETURN_IF_ERROR(ParseOriginal(scaling, rope));
  const NumberRange range = {.min = 0, .max = 1e6, .min_excluded = true};
  ASSIGN_OR_RETURN(rope.low_freq_factor, scaling.Number("low_freq_factor", range));
  ASSIGN_OR_RETURN(rope.high_freq_factor, scaling.Number("high_freq_factor", range));
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    return scaling.Invalid("high_freq_factor",
                           absl::StrCat("must be above low_freq_factor ", rope.low_freq_factor));
  }
  return absl::OkStatus();
}

// Peng et al. 2023 (YaRN), section 3.4: sqrt(1/t) = 0.1 ln(s) + 1, with DeepSeek's weight `mscale`.
double YarnMscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

absl::Status ParseYarn(const ConfigReader& scaling, RopeConfig& rope) {
  RETURN_IF_ERROR(ParseFactor(scaling, rope));
  RETURN_IF_ERROR(ParseOriginal(scaling, rope));
  const NumberRange positive = {.min = 0, .max = 1e6, .min_excluded = true};
  ASSIGN_OR_RETURN(const auto beta_fast, scaling.OptionalNumber("beta_fast", positive));
  ASSIGN_OR_RETURN(const auto beta_slow, scaling.OptionalNumber("beta_slow", positive));
  ASSIGN_OR_RETURN(const auto attention, scaling.OptionalNumber("attention_factor", positive));
  ASSIGN_OR_RETURN(const auto mscale, scaling.OptionalNumber("mscale", positive));
  ASSIGN_OR_RETURN(const auto mscale_all, scaling.OptionalNumber("mscale_all_dim", positive));
  ASSIGN_OR_RETURN(const bool truncate, scaling.BoolOr("truncate", true));
  if (!truncate) return scaling.Invalid("truncate", "only true is supported");
  rope.beta_fast = beta_fast.value_or(rope.beta_fast);
  rope.beta_slow = beta_slow.value_or(rope.beta_slow);
  if (rope.beta_fast <= rope.beta_slow) {
    return scaling.Invalid("beta_fast", absl::StrCat("must be above beta_slow ", rope.beta_slow));
  }
  if (attention.has_value()) {
    rope.attention_factor = *attention;
  } else if (mscale.has_value() && mscale_all.has_value()) {
    rope.attention_factor = YarnMscale(rope.factor, *mscale) / YarnMscale(rope.factor, *mscale_all);
  } else {
    rope.attention_factor = YarnMscale(rope.factor, 1.0);
  }
  return absl::OkStatus();
}

// Chen et al. 2023 (position interpolation): positions shrink by the factor.
void ScaleLinear(const RopeConfig& rope, std::vector<double>& inv_freq) {
  for (double& f : inv_freq) f /= rope.factor;
}

// Llama 3.1: wavelengths beyond the trained context are interpolated, short ones kept, those
// between mixed by how many times they fit into it.
void ScaleLlama3(const RopeConfig& rope, std::vector<double>& inv_freq) {
  for (double& f : inv_freq) {
    const double turns = rope.original_max_position_embeddings * f / kTwoPi;
    const double keep = std::clamp(
        (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
    f = keep * f + (1 - keep) * f / rope.factor;
  }
}

// Peng et al. 2023 (YaRN), section 3.2, with the ramp over the pair index that its authors' code
// and Hugging Face use: whole indices, and never an empty ramp.
void ScaleYarn(const RopeConfig& rope, std::vector<double>& inv_freq) {
  const double head_dim = 2.0 * static_cast<double>(inv_freq.size());
  // Index of the pair that makes `turns` turns over the trained context.
  const auto pair_of = [&](double turns) {
    return head_dim * std::log(rope.original_max_position_embeddings / (turns * kTwoPi)) /
           (2 * std::log(rope.rope_theta));
  };
  const double low = std::max(std::floor(pair_of(rope.beta_fast)), 0.0);
  double high = std::min(std::ceil(pair_of(rope.beta_slow)), head_dim - 1);
  if (high == low) high += 0.001;
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const double interpolate = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inv_freq[i] *= interpolate / rope.factor + (1 - interpolate);
  }
}

constexpr RopeType kRopeTypes[] = {
    {"default", [](const ConfigReader&, RopeConfig&) { return absl::OkStatus(); },
     [](const RopeConfig&, std::vector<double>&) {},
     [](const RopeConfig&, double positions) { return positions; }},
    {"linear", ParseFactor, ScaleLinear,
     [](const RopeConfig& rope, double positions) { return positions * rope.factor; }},
    {"llama3", ParseLlama3, ScaleLlama3,
     [](const RopeConfig&, double positions) { return positions; }},
    {"yarn", ParseYarn, ScaleYarn,
     [](const RopeConfig& rope, double) {
       return rope.original_max_position_embeddings * rope.factor;
     }},
};

const RopeType* FindRopeType(absl::string_view name) {
  for (const RopeType& type : kRopeTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

absl::Status ParseScaling(const ConfigReader& scaling, RopeConfig& rope) {
  // Older files say `type`.
  const absl::string_view field = scaling.Has("rope_type") ? "rope_type" : "type";
  ASSIGN_OR_RETURN(rope.rope_type, scaling.StringOr(field, "default"));
  const RopeType* type = FindRopeType(rope.rope_type);
  if (type == nullptr) {
    const auto name_of = [](std::string* out, const RopeType& t) { absl::StrAppend(out, t.name); };
    return absl::UnimplementedError(
        absl::StrCat(scaling.source(), ": ", field, " \"", rope.rope_type,
                     "\" is not supported; supported: ", absl::StrJoin(kRopeTypes, ", ", name_of)));
  }
  ASSIGN_OR_RETURN(const std::optional<double> partial,
                   scaling.OptionalNumber("partial_rotary_factor", {.min = 0, .max = 1}));
  if (partial.value_or(1) != 1) {
    return scaling.Invalid("partial_rotary_factor", "only 1 is supported");
  }
  return type->parse(scaling, rope);
}

}  // namespace

absl::StatusOr<RopeConfig> ParseRopeConfig(const ConfigReader& config) {
  RopeConfig rope;
  ASSIGN_OR_RETURN(rope.original_max_position_embeddings,
                   config.Number("max_position_embeddings", {.min = 1, .max = kMaxPositions}));
  const NumberRange theta_range = {.min = 1, .max = kMaxTheta, .min_excluded = true};
  ASSIGN_OR_RETURN(const std::optional<ConfigReader> parameters, config.Object("rope_parameters"));
  ASSIGN_OR_RETURN(const std::optional<ConfigReader> scaling, config.Object("rope_scaling"));
  for (const absl::string_view per_type : {"full_attention", "sliding_attention"}) {
    if (parameters.has_value() && parameters->Has(per_type)) {
      return parameters->Invalid(per_type, "one rotation for all layers is what is supported");
    }
  }
  const bool nested = parameters.has_value() && parameters->Has("rope_theta");
  ASSIGN_OR_RETURN(rope.rope_theta,
                   (nested ? *parameters : config).Number("rope_theta", theta_range));
  const std::optional<ConfigReader>& type_source = parameters.has_value() ? parameters : scaling;
  if (type_source.has_value()) RETURN_IF_ERROR(ParseScaling(*type_source, rope));
  return rope;
}

int64_t RopeMaxPositions(const RopeConfig& rope, int64_t max_position_embeddings) {
  const RopeType* type = FindRopeType(rope.rope_type);
  CHECK(type != nullptr) << rope.rope_type;
  const double positions = type->max_positions(rope, static_cast<double>(max_position_embeddings));
  return std::max(max_position_embeddings, static_cast<int64_t>(positions));
}

std::vector<float> RopeInvFreq(const RopeConfig& rope, int32_t head_dim) {
  const RopeType* type = FindRopeType(rope.rope_type);
  CHECK(type != nullptr) << rope.rope_type;
  // Su et al. 2021 (RoFormer), section 3.2.2: theta^(-2i / d).
  std::vector<double> inv_freq(head_dim / 2);
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    inv_freq[i] = std::pow(rope.rope_theta, -2.0 * static_cast<double>(i) / head_dim);
  }
  type->scale(rope, inv_freq);
  return std::vector<float>(inv_freq.begin(), inv_freq.end());
}

}  // namespace moelight
