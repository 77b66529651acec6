// gemm_bench [num_threads]: matrix products of the cpu backend against their roof.
// gemm_bench NUM_THREADS expert [hidden intermediate [isa|all [tokens...]]]: see expert_bench.h.
//
// For every variant that the machine runs: GFLOP/s of MatMul by shape, and the percent of what a
// loop of multiply-adds on registers reaches on the same threads.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "engine/backend/cpu/isa.h"
#include "engine/base/parallel.h"
#include "tests/bench/bench_util.h"
#include "tests/bench/expert_bench.h"

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

// One stretch of work and how fast it went.
template <typename Body>
double Gflops(double min_seconds, const Body& body) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  double operations = 0;
  double seconds = 0;
  while (seconds < min_seconds) {
    operations += static_cast<double>(body());
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return operations / seconds * 1e-9;
}

// Product and peak loop take turns, so that a change of clocks or a busy neighbour meets both.
void BenchShape(Backend& backend, const CpuIsa& isa, ParallelRunner& runner, const Shape& shape) {
  const std::unique_ptr<Stream> stream = backend.CreateStream(Lane::kGpu);
  const BenchWeight weight(backend.weight_format(), shape.rows, shape.cols);
  std::vector<float> x = RandomFloats(shape.tokens * shape.cols, 1.0f, 2);
  std::vector<float> y(shape.tokens * shape.rows);
  const MatMulArgs args = {TensorView::Make(x.data(), DType::kF32, {shape.tokens, shape.cols}),
                           weight.matrix(),
                           TensorView::Make(y.data(), DType::kF32, {shape.tokens, shape.rows})};
  const auto multiply = [&] {
    const absl::Status status = backend.MatMul(args, *stream);
    CHECK(status.ok()) << status.ToString();
    return 2 * shape.tokens * shape.rows * shape.cols;
  };
  const auto loop = [&] {
    std::vector<int64_t> counts(runner.num_threads(), 0);
    runner.For(runner.num_threads(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) counts[i] = isa.kernels->peak_flops(20000);
    });
    return std::accumulate(counts.begin(), counts.end(), int64_t{0});
  };
  multiply();
  std::vector<double> gflops, peaks, percents;
  for (int turn = 0; turn < 7; ++turn) {
    gflops.push_back(Gflops(0.06, multiply));
    peaks.push_back(Gflops(0.06, loop));
    percents.push_back(100 * gflops.back() / peaks.back());
  }
  const double us = 2e-3 * shape.tokens * shape.rows * shape.cols / Median(gflops);
  std::printf("%-12.*s %-15s %5ld x %5ld x %5ld %10.1f us %8.1f GFLOP/s, roof %7.1f, %5.1f %%\n",
              static_cast<int>(isa.name.size()), isa.name.data(), shape.what, shape.tokens,
              shape.rows, shape.cols, us, Median(gflops), Median(peaks), Median(percents));
}

int Main(int argc, char** argv) {
  const int num_threads =
      argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  if (argc > 2 && absl::string_view(argv[2]) == "expert") {
    const absl::string_view isa = argc > 5 ? argv[5] : "all";
    std::vector<int64_t> tokens = {1, 4, 16, 32, 64, 128, 256, 384, 512, 1024, 4096};
    if (argc > 6) tokens.clear();
    for (int i = 6; i < argc; ++i) tokens.push_back(std::atoi(argv[i]));
    BenchExperts(num_threads, argc > 4 ? std::atoi(argv[3]) : 4096,
                 argc > 4 ? std::atoi(argv[4]) : 14336, isa == "all" ? "" : isa, tokens);
    return 0;
  }
  ParallelRunner runner(num_threads);
  std::printf("%d threads; shapes are tokens x rows x columns\n", num_threads);
  for (const CpuIsa& isa : CpuIsas()) {
    if (!isa.supported()) continue;
    auto backend = CreateBackend("cpu", {num_threads, std::string(isa.name)});
    CHECK(backend.ok()) << backend.status().ToString();
    OpLimits limits;
    limits.heads = {1, 1, 64};
    limits.max_tokens = 2048;
    limits.hidden_size = 4096;
    const absl::Status reserved = (*backend)->Reserve(limits);
    CHECK(reserved.ok()) << reserved.ToString();
    for (const Shape& shape : kShapes) BenchShape(**backend, isa, runner, shape);
  }
  return 0;
}

}  // namespace
}  // namespace moelight

int main(int argc, char** argv) { return moelight::Main(argc, argv); }
