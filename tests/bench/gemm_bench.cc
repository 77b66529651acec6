// gemm_bench [num_threads]: matrix products of the cpu backend against their roof.
//
// For every variant that the machine runs: GFLOP/s of MatMul by shape, and the percent of what a
// loop of multiply-adds on registers reaches on the same threads, measured beside each shape
// because clocks and neighbours change.
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "engine/backend/cpu/isa.h"
#include "engine/base/parallel.h"
#include "tests/bench/bench_util.h"
#include "tests/bench/peak_loop.h"

namespace moelight {
namespace {

struct Shape {
  const char* what;
  int64_t tokens, rows, cols;
};

constexpr Shape kShapes[] = {
    {"prefill, large", 2048, 4096, 4096}, {"batch, large", 512, 4096, 4096},
    {"batch, large", 64, 4096, 4096},     {"decode, large", 16, 4096, 4096},
    {"decode, large", 1, 4096, 4096},     {"demo qkv", 256, 256, 128},
    {"demo gate_up", 64, 448, 128},       {"demo down", 64, 128, 224},
    {"demo lm_head", 256, 1024, 128},
};

double PeakGflops(absl::string_view isa, int num_threads) {
  ParallelRunner runner(num_threads);
  constexpr int64_t kRounds = 200000;
  int64_t operations = 0;
  const double seconds = MedianSeconds(0.1, [&] {
    std::vector<int64_t> counts(num_threads, 0);
    runner.For(num_threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) counts[i] = RunPeakLoop(isa, kRounds);
    });
    operations = counts[0] * num_threads;
  });
  return operations / seconds * 1e-9;
}

void BenchShape(Backend& backend, absl::string_view isa, int num_threads, const Shape& shape) {
  const std::unique_ptr<Stream> stream = backend.CreateStream(Lane::kGpu);
  const BenchWeight weight(backend.weight_format(), shape.rows, shape.cols);
  std::vector<float> x = RandomFloats(shape.tokens * shape.cols, 1.0f, 2);
  std::vector<float> y(shape.tokens * shape.rows);
  const MatMulArgs args = {TensorView::Make(x.data(), DType::kF32, {shape.tokens, shape.cols}),
                           weight.matrix(),
                           TensorView::Make(y.data(), DType::kF32, {shape.tokens, shape.rows})};
  const double seconds = MedianSeconds(0.3, [&] {
    const absl::Status status = backend.MatMul(args, *stream);
    CHECK(status.ok()) << status.ToString();
  });
  const double peak = PeakGflops(isa, num_threads);
  const double gflops = 2.0 * shape.tokens * shape.rows * shape.cols / seconds * 1e-9;
  const double weight_gbs = 2.0 * shape.rows * shape.cols / seconds * 1e-9;
  std::printf("%-12.*s %-15s %5ld x %5ld x %5ld %10.1f us %8.1f GFLOP/s %5.1f %% of %7.1f"
              "  (weights %6.1f GB/s)\n",
              static_cast<int>(isa.size()), isa.data(), shape.what, shape.tokens, shape.rows,
              shape.cols, seconds * 1e6, gflops, 100 * gflops / peak, peak, weight_gbs);
}

int Main(int argc, char** argv) {
  const int num_threads =
      argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  std::printf("%d threads; shapes are tokens x rows x columns\n", num_threads);
  for (const CpuIsa& isa : CpuIsas()) {
    if (!isa.supported()) continue;
    auto backend = CreateBackend("cpu", {num_threads, std::string(isa.name)});
    CHECK(backend.ok()) << backend.status().ToString();
    OpLimits limits;
    limits.heads = {1, 1, 64};
    const absl::Status reserved = (*backend)->Reserve(limits);
    CHECK(reserved.ok()) << reserved.ToString();
    for (const Shape& shape : kShapes) BenchShape(**backend, isa.name, num_threads, shape);
  }
  return 0;
}

}  // namespace
}  // namespace moelight

int main(int argc, char** argv) { return moelight::Main(argc, argv); }
