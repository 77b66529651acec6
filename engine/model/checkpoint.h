// Checkpoint: all tensors of a model folder, whether in one safetensors file or in many.
//
// Threads: read-only after Open; Read is thread-safe.
// Owns: the open files. Allocates: in Open only, for names and shapes.
#ifndef MOELIGHT_ENGINE_MODEL_CHECKPOINT_H_
#define MOELIGHT_ENGINE_MODEL_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/model/file.h"
#include "engine/model/safetensors.h"

namespace moelight {

struct CheckpointTensor {
  TensorInfo info;
  int shard = 0;
};

class Checkpoint {
 public:
  // Opens FOLDER/model.safetensors, or the shards that FOLDER/model.safetensors.index.json lists if
  // there is no such file. Every header is checked, and the index and the shards must agree on
  // every tensor.
  // Errors: NotFound if there is neither, or a shard is missing; else as ReadSafetensorsHeader.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& folder);

  const CheckpointTensor* Find(absl::string_view name) const;  // null if there is none
  const std::map<std::string, CheckpointTensor, std::less<>>& tensors() const { return tensors_; }
  const std::string& path(const CheckpointTensor& tensor) const {
    return shards_[tensor.shard].path();
  }

  // Fills `out` from byte `offset` of the tensor on. REQUIRES: they lie within the tensor.
  absl::Status Read(const CheckpointTensor& tensor, int64_t offset,
                    absl::Span<std::byte> out) const;

 private:
  Checkpoint() = default;

  absl::Status OpenSingle(File file);
  absl::Status OpenSharded(const std::string& folder, const std::string& index_path);

  std::vector<File> shards_;
  std::map<std::string, CheckpointTensor, std::less<>> tensors_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_CHECKPOINT_H_
