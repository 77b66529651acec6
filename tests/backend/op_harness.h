// What the op tests share: the table of backends under test, random inputs that every backend
// represents exactly, and the comparison with the reference.
#ifndef MOELIGHT_TESTS_BACKEND_OP_HARNESS_H_
#define MOELIGHT_TESTS_BACKEND_OP_HARNESS_H_

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/backend/backend.h"
#include "tests/backend/device_ops.h"

namespace moelight {

// A backend to hold against the reference.
struct BackendCase {
  std::string name;
  std::string isa;  // of the cpu backend
  int num_threads = 1;
  // Relative L2 error: fp32 sums in another order, or activations rounded to bf16.
  double tolerance = 0;
  // Whether MatMul and DenseFfn give a row the same bits whatever else is in the call.
  bool has_exact_dense_products = true;
  std::string kv_format = {};  // empty: the backend's own, bf16
};
std::ostream& operator<<(std::ostream& out, const BackendCase& backend_case);
std::string BackendCaseName(const BackendCase& backend_case);

// Every variant of the cpu backend that this machine can run on three threads, and the fastest on
// one; cuda if there is a GPU.
std::vector<BackendCase> BackendCases();

// The same with K and V in each of the other formats that the cpu backend has.
std::vector<BackendCase> KvFormatCases();

// Limits that hold for every test.
OpLimits TestLimits();

// A backend with its stream, reserved for TestLimits().
struct TestBackend {
  explicit TestBackend(const BackendCase& backend_case);
  static TestBackend Reference(const std::string& kv_format = "");

  // The ops on host memory.
  DeviceOps ops() { return DeviceOps(*backend, *stream); }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Stream> stream;  // of the gpu lane

 private:
  TestBackend(absl::string_view name, const BackendOptions& options);
};

// A matrix of floats that owns its memory.
struct Matrix {
  Matrix() = default;
  Matrix(int64_t rows, int64_t cols) : rows(rows), cols(cols), values(rows * cols) {}

  TensorView view() { return TensorView::Make(values.data(), DType::kF32, {rows, cols}); }
  TensorView vector() { return TensorView::Make(values.data(), DType::kF32, {rows * cols}); }
  Matrix Rows(int64_t begin, int64_t end) const;

  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;
};

// Normal values, a function of the arguments alone. Those of RandomBf16 are exact in bf16.
Matrix RandomMatrix(int64_t rows, int64_t cols, uint32_t seed, float stddev = 1.0f);
Matrix RandomBf16Matrix(int64_t rows, int64_t cols, uint32_t seed, float stddev = 1.0f);

// A weight packed in the format of a backend. Fresh host memory is zeroed and aligned to 64.
class PackedWeight {
 public:
  PackedWeight(const WeightFormat& format, Matrix source);
  const WeightMatrix& matrix() const { return matrix_; }

 private:
  struct Free {
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
  WeightMatrix matrix_;
};

// One expert, with values of a size that keeps its output near one.
struct PackedFfn {
  PackedFfn(const WeightFormat& format, int64_t hidden_size, int64_t intermediate_size,
            uint32_t seed);
  FfnWeights weights() const { return {gate_up.matrix(), down.matrix()}; }

  PackedWeight gate_up;
  PackedWeight down;
};

// The buffers behind a Routing.
struct RoutingBuffers {
  RoutingBuffers(int64_t num_tokens, int64_t num_experts, int64_t num_experts_per_tok);
  Routing routing();

  int64_t num_tokens;
  int64_t num_experts_per_tok;
  std::vector<int32_t> expert_ids, expert_offsets, slot_tokens, token_slots;
  std::vector<float> gates;
};

// || actual - expected || / || expected ||
double RelativeError(const std::vector<float>& actual, const std::vector<float>& expected);
void ExpectClose(const Matrix& actual, const Matrix& expected, double tolerance);
// Equal bit for bit.
void ExpectSame(const Matrix& actual, const Matrix& expected);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_BACKEND_OP_HARNESS_H_
