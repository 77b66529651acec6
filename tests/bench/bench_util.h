// Random buffers, weights and medians for the benchmarks.
#ifndef MOELIGHT_TESTS_BENCH_BENCH_UTIL_H_
#define MOELIGHT_TESTS_BENCH_BENCH_UTIL_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "engine/backend/backend.h"

namespace moelight {

inline std::vector<float> RandomFloats(int64_t n, float stddev, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-stddev, stddev);
  std::vector<float> values(n);
  for (float& value : values) value = uniform(random);
  return values;
}

inline double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// A random weight in the format of a backend.
class BenchWeight {
 public:
  BenchWeight(const WeightFormat& format, int64_t rows, int64_t cols) {
    const int64_t bytes = format.bytes(rows, cols);
    data_.reset(std::aligned_alloc(64, bytes));
    std::memset(data_.get(), 0, bytes);
    std::vector<float> source = RandomFloats(rows * cols, 0.05f, 1);
    format.pack(TensorView::Make(source.data(), DType::kF32, {rows, cols}), 0, rows, data_.get());
    matrix_ = {data_.get(), &format, rows, cols};
  }
  const WeightMatrix& matrix() const { return matrix_; }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  std::unique_ptr<void, Free> data_;
  WeightMatrix matrix_;
};

}  // namespace moelight

#endif  // MOELIGHT_TESTS_BENCH_BENCH_UTIL_H_
