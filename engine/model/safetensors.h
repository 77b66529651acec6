// The safetensors format: the header of one file, checked in full.
//
// A file is a little-endian uint64 header length, that many bytes of JSON naming each tensor's
// dtype, shape and byte range, and the data. Nothing of a header is believed before it is checked:
// afterwards every tensor lies inside the data, has exactly the bytes of its shape, and the
// tensors cover the data without overlap or hole.
//
// Threads: pure functions and plain values.
#ifndef MOELIGHT_ENGINE_MODEL_SAFETENSORS_H_
#define MOELIGHT_ENGINE_MODEL_SAFETENSORS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/model/file.h"

namespace moelight {

// The format's own limit on a header.
inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct TensorInfo {
  std::string dtype;           // as the format writes it: "BF16", "F32", ...
  std::vector<int64_t> shape;  // each >= 0; empty for a scalar
  int64_t begin = 0;           // offset in the file, of any alignment
  int64_t bytes = 0;

  std::string ShapeString() const;  // "[8, 64] BF16"
};

using TensorMap = std::map<std::string, TensorInfo, std::less<>>;

// Reads and checks the header of an open file.
// Errors: InvalidArgument or DataLoss "PATH: tensor NAME: RULE".
absl::StatusOr<TensorMap> ReadSafetensorsHeader(const File& file);

// The same for a header already in memory; `data_begin` and `data_bytes` place its data in the
// file.
absl::StatusOr<TensorMap> ParseSafetensorsHeader(absl::string_view json,
                                                 absl::string_view source_name, int64_t data_begin,
                                                 int64_t data_bytes);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_SAFETENSORS_H_
