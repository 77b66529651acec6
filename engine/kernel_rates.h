// What the kernels of the cpu backend reach on this machine, each figure beside its roof: the plain
// values that cpu_probe/ measures, `moelightd bench` prints and a planner reads.
//
// Part of what the server sees, by way of engine.h.
#ifndef MOELIGHT_ENGINE_KERNEL_RATES_H_
#define MOELIGHT_ENGINE_KERNEL_RATES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/spread.h"

namespace moelight {

// A kernel and copies from host memory to a GPU at full rate, at the same time.
struct BesideCopyRate {
  Spread seconds;  // of one call of the kernel, copies going on
  Spread copy_alone_bytes_per_s;
  Spread copy_beside_bytes_per_s;
};

// One call of a kernel. Kernel and roofs took turns on the same threads, because clocks and
// neighbours change.
struct KernelRate {
  std::string isa;
  int64_t bytes = 0;  // that one call reads from memory at least
  int64_t flops = 0;
  Spread seconds;
  Spread read_bytes_per_s;  // roof: memory read from beginning to end
  Spread peak_flops_per_s;  // roof: the widest multiply-adds, on registers
  Spread roof_share;        // of the roof that binds, turn by turn
  std::optional<BesideCopyRate> beside_copy = {};

  // What a call would take at its roof.
  double read_seconds() const { return static_cast<double>(bytes) / read_bytes_per_s.median; }
  double peak_seconds() const { return static_cast<double>(flops) / peak_flops_per_s.median; }
  bool is_bound_by_reads() const { return read_seconds() >= peak_seconds(); }
};

// How a probe of kernels runs. Threads and their places are the engine's.
struct KernelProbeOptions {
  std::string isa = {};                     // empty: every variant that the machine runs
  int64_t memory_bytes = int64_t{4} << 30;  // at most, for what is read
  bool beside_copy = false;                 // measured beside copies to the GPU too
};

// What it ran on.
struct CpuProbeInfo {
  int32_t num_threads = 0;
  bool is_pinned = false;    // each thread to one CPU
  int64_t cache_bytes = 0;   // of the last level, as the system says; 0: unknown
  int64_t memory_bytes = 0;  // that the calls go round
};

// Decode attention: one new token for each sequence of a batch, over a paged cache.
struct AttentionProbeSpec {
  struct Shape {
    int32_t context = 0;  // keys of each sequence, the new one included
    int32_t batch = 0;    // sequences
  };
  std::vector<Shape> shapes;
  int32_t num_attention_heads = 32;
  int32_t num_key_value_heads = 8;
  int32_t head_dim = 128;
  int32_t page_tokens = 16;
  std::string kv_format = "bf16";
};
struct AttentionRate {
  AttentionProbeSpec::Shape shape;
  KernelRate rate;
};
struct AttentionRates {
  CpuProbeInfo info;
  std::vector<AttentionRate> rows;
};

// Some tokens through one expert, whose weights come from memory.
struct ExpertProbeSpec {
  std::vector<int64_t> tokens;
  int64_t hidden_size = 4096;  // the defaults are Mixtral-8x7B's
  int64_t intermediate_size = 14336;
};
struct ExpertRate {
  int64_t tokens = 0;
  KernelRate rate;
};
struct ExpertRates {
  CpuProbeInfo info;
  std::vector<ExpertRate> rows;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_KERNEL_RATES_H_
