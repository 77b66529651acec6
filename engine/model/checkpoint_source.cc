#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/substitute.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/model/checkpoint.h"
#include "engine/model/tensor_source.h"

namespace moelight {
namespace {

constexpr size_t kMaxNamesShown = 5;

std::optional<DType> WeightDType(absl::string_view name) {
  if (name == "BF16") return DType::kBF16;
  if (name == "F16") return DType::kF16;
  if (name == "F32") return DType::kF32;
  return std::nullopt;
}

// "a, b, c and 4 more". Names come from files, so they are escaped.
std::string ShowNames(const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kMaxNamesShown);
  std::string text = absl::StrJoin(
      names.begin(), names.begin() + shown, ", ", [](std::string* out, const std::string& name) {
        absl::StrAppend(out, absl::Utf8SafeCHexEscape(name.substr(0, 200)));
      });
  if (names.size() > shown) absl::StrAppend(&text, " and ", names.size() - shown, " more");
  return text;
}

class CheckpointSource : public TensorSource {
 public:
  CheckpointSource(std::string folder, std::unique_ptr<Checkpoint> checkpoint,
                   const TensorNames& names)
      : folder_(std::move(folder)), checkpoint_(std::move(checkpoint)), names_(names) {}

  const TensorNames& names() const override { return names_; }

  absl::Status Check(absl::Span<const WeightPart> parts, Logger& logger) const override {
    std::set<std::string, std::less<>> expected;
    std::vector<std::string> missing;
    for (const WeightPart& part : parts) {
      if (!expected.insert(part.tensor).second) continue;
      const CheckpointTensor* tensor = checkpoint_->Find(part.tensor);
      if (tensor == nullptr) {
        missing.push_back(part.tensor);
        continue;
      }
      RETURN_IF_ERROR(CheckTensor(part, *tensor));
    }
    if (!missing.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(folder_, ": ", missing.size(), " of ",
                                                     expected.size(),
                                                     " tensors are missing: ", ShowNames(missing)));
    }
    WarnOfExtra(expected, logger);
    return absl::OkStatus();
  }

  absl::StatusOr<TensorView> ReadRows(const WeightPart& part, int64_t row, int64_t num_rows,
                                      std::byte* scratch) const override {
    const CheckpointTensor* tensor = checkpoint_->Find(part.tensor);
    CHECK(tensor != nullptr) << part.tensor;
    const DType dtype = *WeightDType(tensor->info.dtype);
    const TensorView rows = TensorView::Make(scratch, dtype, {num_rows, part.num_cols});
    const int64_t offset = (part.source_row + row) * part.num_cols * DTypeBytes(dtype);
    RETURN_IF_ERROR(
        checkpoint_->Read(*tensor, offset, {scratch, static_cast<size_t>(rows.bytes())}));
    return rows;
  }

 private:
  absl::Status CheckTensor(const WeightPart& part, const CheckpointTensor& tensor) const {
    const auto broken = [&](absl::string_view rule) {
      return absl::InvalidArgumentError(absl::StrCat(checkpoint_->path(tensor), ": tensor \"",
                                                     part.tensor, "\" is ",
                                                     tensor.info.ShapeString(), ", ", rule));
    };
    if (tensor.info.shape != part.shape) {
      return broken(absl::StrCat("config.json asks for [", absl::StrJoin(part.shape, ", "), "]"));
    }
    if (!WeightDType(tensor.info.dtype).has_value()) {
      return broken("supported dtypes are BF16, F16 and F32");
    }
    return absl::OkStatus();
  }

  // Not an error: checkpoints also carry rotary tables, unused heads and draft layers.
  void WarnOfExtra(const std::set<std::string, std::less<>>& expected, Logger& logger) const {
    std::vector<std::string> extra;
    for (const auto& [name, tensor] : checkpoint_->tensors()) {
      if (expected.find(name) == expected.end()) extra.push_back(name);
    }
    if (extra.empty()) return;
    logger.Warning("checkpoint_tensors_unused",
                   {{"folder", folder_}, {"count", extra.size()}, {"tensors", ShowNames(extra)}});
  }

  const std::string folder_;
  const std::unique_ptr<Checkpoint> checkpoint_;
  const TensorNames& names_;
};

// The first spelling under which the first MoE layer has experts; the published one if none does,
// so that errors speak of the names users know.
const TensorNames& ChooseNames(const Architecture& architecture, const ModelConfig& config,
                               const Checkpoint& checkpoint) {
  const auto moe = std::find(config.layer_ffn.begin(), config.layer_ffn.end(), FfnKind::kMoe);
  const int64_t layer = moe - config.layer_ffn.begin();
  for (const TensorNames& names : architecture.tensor_names) {
    const absl::string_view probe = names.fused_down.empty() ? names.expert_down : names.fused_down;
    if (checkpoint.Find(absl::Substitute(probe, layer, 0)) != nullptr) return names;
  }
  return architecture.tensor_names.front();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> OpenCheckpointSource(const std::string& folder,
                                                                   const ModelConfig& config) {
  ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(config.architecture));
  ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(folder));
  const TensorNames& names = ChooseNames(*architecture, config, *checkpoint);
  return std::make_unique<CheckpointSource>(folder, std::move(checkpoint), names);
}

}  // namespace moelight
