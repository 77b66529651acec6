// `moelightd bench attention` and `bench experts`: their arguments, and their figures as lines for
// people and as JSON.
//
// Pure functions.
#ifndef MOELIGHT_SERVER_BENCH_KERNELS_H_
#define MOELIGHT_SERVER_BENCH_KERNELS_H_

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "engine/engine.h"
#include "server/bench_flags.h"

namespace moelight {

struct KernelBenchOptions {
  std::string isa;                        // empty: every variant that the machine runs
  int64_t num_threads = 0;                // 0: engine.cpu_threads
  BenchSize memory = {int64_t{4} << 30};  // at most, for what is read
  bool beside_copy = false;
  // Of attention only:
  BenchNumbers contexts;                   // empty: the default table
  BenchNumbers batches;                    // empty: 64
  BenchNumbers heads = {{32, 8}, '/', 2};  // query heads, KV heads
  int64_t head_dim = 128;
  int64_t page_tokens = 16;
  std::string kv_format = "bf16";
  // Of experts only:
  BenchNumbers tokens = {{1, 4, 8, 16, 32, 64, 128, 256, 384, 512, 1024}};
  BenchNumbers shape = {{4096, 14336}, 'x', 2};  // hidden x intermediate
};

// The rows of the tables of arguments, which write into `options`.
std::vector<BenchFlag> AttentionBenchFlags(KernelBenchOptions* options);
std::vector<BenchFlag> ExpertBenchFlags(KernelBenchOptions* options);

AttentionProbeSpec MakeAttentionSpec(const KernelBenchOptions& options);
ExpertProbeSpec MakeExpertSpec(const KernelBenchOptions& options);
KernelProbeOptions MakeKernelProbeOptions(const KernelBenchOptions& options);

// Lines of a table that grows while it is measured.
std::string AttentionHeader(const KernelBenchOptions& options);
std::string AttentionLine(const AttentionRate& rate);
std::string ExpertHeader(const KernelBenchOptions& options);
std::string ExpertLine(const ExpertRate& rate);
std::string ProbeFooter(const CpuProbeInfo& info);

nlohmann::ordered_json AttentionRatesToJson(const AttentionProbeSpec& spec,
                                            const AttentionRates& rates);
nlohmann::ordered_json ExpertRatesToJson(const ExpertProbeSpec& spec, const ExpertRates& rates);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BENCH_KERNELS_H_
