#include "engine/model/checkpoint.h"

#include <utility>

#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/base/check.h"
#include "engine/base/json.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

constexpr absl::string_view kSingleFile = "model.safetensors";
constexpr absl::string_view kIndexFile = "model.safetensors.index.json";
constexpr absl::string_view kShardSuffix = ".safetensors";
constexpr int64_t kMaxIndexBytes = int64_t{64} << 20;  // 10^5 tensors take about 10 MiB
constexpr size_t kMaxShards = 4096;                    // each keeps a descriptor open

using WeightMap = std::map<std::string, std::string, std::less<>>;  // tensor to file name

// A plain file name, so that an index cannot reach outside its folder.
bool IsShardName(absl::string_view name) {
  return name.size() > kShardSuffix.size() && absl::EndsWith(name, kShardSuffix) &&
         name.front() != '.' && name.find_first_of(absl::string_view("/\\\0", 3)) == name.npos;
}

absl::StatusOr<WeightMap> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  ASSIGN_OR_RETURN(
      const nlohmann::json index,
      ParseJson(text, path, {.max_depth = 8, .max_bytes = kMaxIndexBytes, .unique_keys = true}));
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": weight_map must be an object that names a file for every tensor"));
  }
  WeightMap files;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string() || !IsShardName(file.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": weight_map gives tensor \"", tensor, "\" the file ",
                       file.dump(-1, ' ', /*ensure_ascii=*/true), ", must be the name of a ",
                       kShardSuffix, " file in the same folder"));
    }
    files.emplace(tensor, file.get<std::string>());
  }
  return files;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& folder) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  absl::StatusOr<File> single = File::Open(absl::StrCat(folder, "/", kSingleFile));
  if (single.ok()) {
    RETURN_IF_ERROR(checkpoint->OpenSingle(*std::move(single)));
    return checkpoint;
  }
  if (!absl::IsNotFound(single.status())) return single.status();
  RETURN_IF_ERROR(checkpoint->OpenSharded(folder, absl::StrCat(folder, "/", kIndexFile)));
  return checkpoint;
}

absl::Status Checkpoint::OpenSingle(File file) {
  ASSIGN_OR_RETURN(TensorMap tensors, ReadSafetensorsHeader(file));
  for (auto& [name, info] : tensors) tensors_.emplace(name, CheckpointTensor{std::move(info), 0});
  shards_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status Checkpoint::OpenSharded(const std::string& folder, const std::string& index_path) {
  absl::StatusOr<WeightMap> files = ReadIndex(index_path);
  if (absl::IsNotFound(files.status())) {
    return absl::NotFoundError(absl::StrCat(folder, ": has neither ", kSingleFile, " nor ",
                                            kIndexFile, "; only safetensors checkpoints are read"));
  }
  if (!files.ok()) return files.status();

  std::map<absl::string_view, int> shard_of_name;
  for (const auto& [tensor, name] : *files) {
    const auto [it, inserted] = shard_of_name.emplace(name, static_cast<int>(shards_.size()));
    if (!inserted) continue;
    if (shards_.size() == kMaxShards) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": names more than ", kMaxShards, " files"));
    }
    ASSIGN_OR_RETURN(File file, File::Open(absl::StrCat(folder, "/", name)));
    ASSIGN_OR_RETURN(TensorMap tensors, ReadSafetensorsHeader(file));
    for (auto& [stored, info] : tensors) {
      const auto listed = files->find(stored);
      if (listed == files->end() || listed->second != name) {
        return absl::InvalidArgumentError(absl::StrCat(
            file.path(), ": tensor \"", absl::Utf8SafeCHexEscape(stored), "\": the index ",
            listed == files->end() ? "does not list it" : "places it in " + listed->second));
      }
      tensors_.emplace(stored, CheckpointTensor{std::move(info), it->second});
    }
    shards_.push_back(std::move(file));
  }
  for (const auto& [tensor, name] : *files) {
    if (Find(tensor) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder, "/", name, ": tensor \"", absl::Utf8SafeCHexEscape(tensor),
                       "\": the index places it here, but the file does not hold it"));
    }
  }
  return absl::OkStatus();
}

const CheckpointTensor* Checkpoint::Find(absl::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

absl::Status Checkpoint::Read(const CheckpointTensor& tensor, int64_t offset,
                              absl::Span<std::byte> out) const {
  CHECK(offset >= 0 && static_cast<int64_t>(out.size()) <= tensor.info.bytes - offset);
  return shards_[tensor.shard].ReadAt(tensor.info.begin + offset, out);
}

}  // namespace moelight
