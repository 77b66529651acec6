#include "engine/model/architectures.h"

#include <optional>
#include <string>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

constexpr const Architecture* kArchitectures[] = {&kMixtral, &kQwen3Moe};

}  // namespace

absl::Span<const Architecture* const> Architectures() { return kArchitectures; }

absl::StatusOr<const Architecture*> FindArchitecture(absl::string_view name) {
  for (const Architecture* architecture : kArchitectures) {
    if (architecture->name == name) return architecture;
  }
  const auto name_of = [](std::string* out, const Architecture* a) {
    absl::StrAppend(out, a->name);
  };
  return absl::UnimplementedError(absl::StrCat(
      "architecture \"", name.substr(0, 100),
      "\" is not supported; supported: ", absl::StrJoin(kArchitectures, ", ", name_of)));
}

absl::Status ParseExpertCounts(const ConfigReader& config, ModelConfig& model) {
  ASSIGN_OR_RETURN(const std::optional<int64_t> experts,
                   config.OptionalInt("num_experts", kNumExpertsRange));
  ASSIGN_OR_RETURN(const std::optional<int64_t> local_experts,
                   config.OptionalInt("num_local_experts", kNumExpertsRange));
  if (!experts.has_value() && !local_experts.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.source(), ": num_experts (or num_local_experts) is missing"));
  }
  if (experts.has_value() && local_experts.has_value() && *experts != *local_experts) {
    return config.Invalid("num_local_experts", absl::StrCat("but num_experts is ", *experts));
  }
  model.num_experts = experts.has_value() ? *experts : *local_experts;
  ASSIGN_OR_RETURN(model.num_experts_per_tok,
                   config.Int("num_experts_per_tok", {.min = 1, .max = model.num_experts}));
  return absl::OkStatus();
}

}  // namespace moelight
