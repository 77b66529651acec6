#include "tests/bench/expert_bench.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <absl/strings/match.h>
#include <sys/mman.h>

#include "engine/backend/cpu/isa.h"
#include "engine/base/parallel.h"
#include "engine/cpu_probe/turns.h"
#include "tests/bench/bench_util.h"
#include "tests/bench/dnnl_ffn.h"

namespace moelight {
namespace {

// Experts are used in turn, so that each has left the caches when it is used again: four times the
// L3 of a large server part.
constexpr int64_t kColdBytes = int64_t{512} << 20;
// Of one turn, which ends after the call that reaches it.
constexpr double kTurnSeconds = 0.25;
constexpr int kTurns = 5;
// How far ahead the reading loop prefetches: enough for the latency of memory at full rate.
constexpr int64_t kReadAheadBytes = 2048;

// Weights in huge pages, as WeightArena has them. All values are 0.0078 but for padding: only the
// time counts.
class ExpertWeights {
 public:
  ExpertWeights(const WeightFormat& format, int64_t num_experts, int64_t hidden_size,
                int64_t intermediate_size) {
    const int64_t gate_up_bytes = format.bytes(2 * intermediate_size, hidden_size);
    const int64_t down_bytes = format.bytes(hidden_size, intermediate_size);
    bytes_ = gate_up_bytes + down_bytes;
    constexpr int64_t kHugePage = 2 << 20;
    const int64_t total = (num_experts * bytes_ + kHugePage - 1) / kHugePage * kHugePage;
    data_.reset(static_cast<char*>(std::aligned_alloc(kHugePage, total)));
    CHECK(data_ != nullptr);
    (void)madvise(data_.get(), total, MADV_HUGEPAGE);
    std::memset(data_.get(), 0x3c, total);
    for (int64_t e = 0; e < num_experts; ++e) {
      char* at = data_.get() + e * bytes_;
      experts_.push_back({{at, &format, 2 * intermediate_size, hidden_size},
                          {at + gate_up_bytes, &format, hidden_size, intermediate_size}});
    }
  }

  int64_t bytes_per_expert() const { return bytes_; }
  int64_t bytes() const { return bytes_ * static_cast<int64_t>(experts_.size()); }
  const char* data() const { return data_.get(); }
  absl::Span<const FfnWeights> expert(int64_t e) const { return {&experts_[e], 1}; }

 private:
  struct Free {
    void operator()(char* data) const { std::free(data); }
  };
  std::unique_ptr<char, Free> data_;
  int64_t bytes_ = 0;
  std::vector<FfnWeights> experts_;
};

// `num_tokens` tokens that all go to expert 0.
struct OneExpert {
  explicit OneExpert(int64_t num_tokens, int64_t hidden_size)
      : x(RandomFloats(num_tokens * hidden_size, 1.0f, 2)),
        y(num_tokens * hidden_size),
        ids(num_tokens, 0),
        offsets{0, static_cast<int32_t>(num_tokens)},
        slots(num_tokens),
        gates(num_tokens, 1.0f) {
    std::iota(slots.begin(), slots.end(), 0);
    args.x = TensorView::Make(x.data(), DType::kF32, {num_tokens, hidden_size});
    args.y = TensorView::Make(y.data(), DType::kF32, {num_tokens, hidden_size});
    args.routing.expert_ids = TensorView::Make(ids.data(), DType::kI32, {num_tokens, 1});
    args.routing.gates = TensorView::Make(gates.data(), DType::kF32, {num_tokens, 1});
    args.routing.expert_offsets = TensorView::Make(offsets.data(), DType::kI32, {2});
    args.routing.slot_tokens = TensorView::Make(slots.data(), DType::kI32, {num_tokens});
    args.routing.token_slots = TensorView::Make(slots.data(), DType::kI32, {num_tokens, 1});
  }

  std::vector<float> x, y;
  std::vector<int32_t> ids, offsets, slots;
  std::vector<float> gates;
  MoeFfnArgs args;
};

struct Bench {
  int num_threads;
  int64_t hidden_size, intermediate_size;
  absl::string_view isa;
  const CpuKernels& kernels;
  const ExpertWeights& weights;
  int64_t num_experts;
  ParallelRunner& runner;

  // Bytes per second of a loop that only reads the weights.
  double ReadRate() const {
    const int64_t part = weights.bytes() / num_threads / 4096 * 4096;
    const double seconds = SecondsPerCall(kTurnSeconds, [&] {
      runner.For(num_threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          kernels.read_stream(weights.data() + i * part, part, kReadAheadBytes);
      });
    });
    return static_cast<double>(part * num_threads) / seconds;
  }

  // Operations per second of multiply-adds on registers.
  double PeakRate() const {
    constexpr int64_t kRounds = 20000;
    int64_t operations = 0;
    const double seconds = SecondsPerCall(kTurnSeconds, [&] {
      std::vector<int64_t> counts(num_threads, 0);
      runner.For(num_threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) counts[i] = kernels.peak_flops(kRounds);
      });
      operations = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    });
    return static_cast<double>(operations) / seconds;
  }

  // The op, its roofs and oneDNN take turns, so that a change of clocks or a busy neighbour meets
  // all of them.
  void Run(Backend& backend, int64_t num_tokens, bool compares) const {
    const std::unique_ptr<Stream> stream = backend.CreateStream(Lane::kGpu);
    OneExpert input(num_tokens, hidden_size);
    std::unique_ptr<DnnlFfn> dnnl;
    if (compares) {
      dnnl = DnnlFfn::Create(num_threads, num_experts, hidden_size, intermediate_size, num_tokens);
    }
    int64_t next = 0;
    const auto run = [&] {
      input.args.experts = weights.expert(next++ % num_experts);
      const absl::Status status = backend.MoeFfn(input.args, *stream);
      CHECK(status.ok()) << status.ToString();
    };
    run();
    if (dnnl != nullptr) dnnl->Run(0);
    const double operations =
        6.0 * static_cast<double>(num_tokens * hidden_size * intermediate_size);
    const double bytes = static_cast<double>(weights.bytes_per_expert());
    std::vector<double> seconds, reads, peaks, percents, dnnl_seconds, ratios;
    for (int turn = 0; turn < kTurns; ++turn) {
      reads.push_back(ReadRate());
      peaks.push_back(PeakRate());
      seconds.push_back(SecondsPerCall(kTurnSeconds, run));
      const double roof = std::max(bytes / reads.back(), operations / peaks.back());
      percents.push_back(100 * roof / seconds.back());
      if (dnnl == nullptr) continue;
      dnnl_seconds.push_back(
          SecondsPerCall(kTurnSeconds, [&] { dnnl->Run(next++ % num_experts); }));
      ratios.push_back(dnnl_seconds.back() / seconds.back());
    }
    const double time = Median(seconds);
    std::printf("%-12.*s %5ld %10.2f ms %7.1f GB/s of %6.1f %8.1f GFLOP/s of %8.1f %6.1f %%",
                static_cast<int>(isa.size()), isa.data(), num_tokens, time * 1e3,
                bytes / time * 1e-9, Median(reads) * 1e-9, operations / time * 1e-9,
                Median(peaks) * 1e-9, Median(percents));
    if (dnnl != nullptr) {
      std::printf("   oneDNN %10.2f ms, x %.2f", Median(dnnl_seconds) * 1e3, Median(ratios));
    }
    std::printf("\n");
    std::fflush(stdout);
  }
};

}  // namespace

void BenchExperts(int num_threads, int64_t hidden_size, int64_t intermediate_size,
                  absl::string_view isa_name, absl::Span<const int64_t> tokens) {
  ParallelRunner runner(num_threads);
  std::printf(
      "%d threads, hidden %ld, intermediate %ld; tokens, time, weight bytes and operations "
      "per second\nof the roofs, percent of the nearer roof, and oneDNN's time over ours\n",
      num_threads, hidden_size, intermediate_size);
  if (DnnlFfn::Create(num_threads, 1, 32, 32, 1) == nullptr) {
    std::printf("oneDNN was not found at configure time: no comparison\n");
  }
  const auto backend_of = [&](const CpuIsa& isa) {
    auto backend = CreateBackend("cpu", {num_threads, std::string(isa.name)});
    CHECK(backend.ok()) << backend.status().ToString();
    OpLimits limits;
    limits.heads = {1, 1, 64};
    limits.max_tokens = *std::max_element(tokens.begin(), tokens.end());
    limits.hidden_size = hidden_size;
    limits.max_intermediate_size = intermediate_size;
    limits.num_experts = 1;
    limits.num_experts_per_tok = 1;
    const absl::Status reserved = (*backend)->Reserve(limits);
    CHECK(reserved.ok()) << reserved.ToString();
    return *std::move(backend);
  };
  std::unique_ptr<ExpertWeights> weights;
  for (const CpuIsa& isa : CpuIsas()) {
    if (!isa.supported() || (!isa_name.empty() && isa.name != isa_name)) continue;
    const std::unique_ptr<Backend> backend = backend_of(isa);
    const int64_t expert_bytes = 6 * hidden_size * intermediate_size;
    const int64_t num_experts = std::max<int64_t>(2, kColdBytes / expert_bytes + 1);
    if (weights == nullptr) {
      weights = std::make_unique<ExpertWeights>(backend->weight_format(), num_experts, hidden_size,
                                                intermediate_size);
    }
    const Bench bench = {num_threads,  hidden_size, intermediate_size, isa.name,
                         *isa.kernels, *weights,    num_experts,       runner};
    // oneDNN uses bf16 products where the machine has them.
    const bool compares = absl::StrContains(isa.name, "bf16");
    for (const int64_t num_tokens : tokens) bench.Run(*backend, num_tokens, compares);
  }
}

}  // namespace moelight
