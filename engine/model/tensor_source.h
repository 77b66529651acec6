// TensorSource: where the weights come from, a checkpoint or thin air.
//
// Threads: ReadRows is thread-safe, the rest is for the loading thread.
#ifndef MOELIGHT_ENGINE_MODEL_TENSOR_SOURCE_H_
#define MOELIGHT_ENGINE_MODEL_TENSOR_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include "engine/base/logger.h"
#include "engine/base/tensor_view.h"
#include "engine/model/architectures.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_plan.h"

namespace moelight {

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // The spelling to plan with.
  virtual const TensorNames& names() const = 0;
  // Whether all parts can be read. Errors: InvalidArgument naming file, tensor and rule.
  virtual absl::Status Check(absl::Span<const WeightPart> parts, Logger& logger) const = 0;
  // Rows [row, row + num_rows) of the part, in a dtype that formats pack: f32, bf16 or f16.
  // `scratch` is aligned to 64 and holds them as f32; the result may lie in it.
  // REQUIRES: Check() of the part was OK.
  virtual absl::StatusOr<TensorView> ReadRows(const WeightPart& part, int64_t row, int64_t num_rows,
                                              std::byte* scratch) const = 0;
};

// The safetensors files of `folder`. Errors: as Checkpoint::Open.
absl::StatusOr<std::unique_ptr<TensorSource>> OpenCheckpointSource(const std::string& folder,
                                                                   const ModelConfig& config);

// Random weights from the shapes alone, the same for the same seed; see dummy_source.cc for what
// makes their routing balanced.
absl::StatusOr<std::unique_ptr<TensorSource>> MakeDummySource(const ModelConfig& config,
                                                              uint64_t seed);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_TENSOR_SOURCE_H_
