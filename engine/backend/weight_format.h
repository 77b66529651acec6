// WeightFormat: how the elements of a weight matrix lie in memory, and the table of all formats.
//
// A matrix has `num_rows` output features and `num_cols` input features, as in a checkpoint:
// y[t, r] = sum over c of w[r, c] * x[t, c]. Adding a format is one header in formats/ and one row
// in weight_format.cc; nothing else may ask which format a matrix has, except the kernels for it.
#ifndef MOELIGHT_ENGINE_BACKEND_WEIGHT_FORMAT_H_
#define MOELIGHT_ENGINE_BACKEND_WEIGHT_FORMAT_H_

#include <cstdint>

#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/base/tensor_view.h"

namespace moelight {

struct WeightFormat {
  absl::string_view name;
  // Bytes of a matrix, padding included; always a multiple of 64.
  int64_t (*bytes)(int64_t num_rows, int64_t num_cols);
  // Writes rows of a row-major checkpoint tensor `src` [n, num_cols] (f32, bf16 or f16) into rows
  // [row_begin, row_begin + n) of the matrix at `dst` of `num_rows` rows. Parts may be packed in
  // any order and on any thread; the padding is zeroed by whoever packs the neighbouring element,
  // so `dst` must be zeroed memory.
  void (*pack)(const TensorView& src, int64_t row_begin, int64_t num_rows, void* dst);
  // Element (row, col) as float; for tests and tools.
  float (*get)(const void* data, int64_t num_rows, int64_t num_cols, int64_t row, int64_t col);
};

// Every format, for tests and configuration.
absl::Span<const WeightFormat* const> WeightFormats();
const WeightFormat* FindWeightFormat(absl::string_view name);  // null if there is none

// A matrix in some format. Borrows its memory.
struct WeightMatrix {
  const void* data = nullptr;
  const WeightFormat* format = nullptr;
  int64_t num_rows = 0;  // output features
  int64_t num_cols = 0;  // input features

  bool defined() const { return data != nullptr; }
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_WEIGHT_FORMAT_H_
