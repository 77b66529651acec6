// HardwareProfile: what a machine can do, in attained rates. The probe measures it; a file under
// deploy/hardware describes a machine that is not here. The planner and the simulated backend know
// a machine by nothing else.
//
// These are the P_i, B_i and B_ji of the hierarchical roofline model (MoE-Lightning section 3), not
// as data sheets have them but as our kernels and copies reach them.
//
// Part of what the server sees. Plain values; threads: none of its own.
#ifndef MOELIGHT_ENGINE_BASE_HARDWARE_PROFILE_H_
#define MOELIGHT_ENGINE_BASE_HARDWARE_PROFILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/status.h>

#include "engine/base/rate_curve.h"

namespace moelight {

// Rates of products with the weights of experts of one size, by tokens per expert.
struct ExpertRateCurve {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  RateCurve flops_per_s;
};

// Decode attention on the host, over the paged KV cache: bytes of K and V per second.
struct HostAttentionRate {
  std::string kv_format;   // a name that ParseKvFormat() knows
  int32_t group_size = 0;  // query heads per KV head
  RateCurve bytes_per_s;   // by context length
};

struct HostProfile {
  std::string name;                       // "16 cores of Intel Xeon ..."
  int32_t num_threads = 0;                // compute threads that the rates are for
  int64_t memory_bytes = 0;               // that an engine may take
  int64_t pinnable_bytes = -1;            // limit on locked memory; -1: none
  double read_bytes_per_s = 0;            // memory read in order by all threads
  RateCurve read_bytes_per_s_by_threads;  // may be empty
  // Kernels on the host and copies over the link together: what memory gives when both want it.
  double shared_bytes_per_s = 0;
  double peak_flops_per_s = 0;               // widest multiply-adds, all threads
  std::vector<HostAttentionRate> attention;  // not empty
  std::vector<ExpertRateCurve> experts;      // not empty
  // Logits looked through by the sampler on one thread, bytes per second.
  double sample_bytes_per_s = 0;
  // How far the turns of the least certain figure here lie apart, of their median; 0: not measured.
  double spread = 0;
};

// One GPU of `count`, which are alike.
struct GpuProfile {
  std::string name;
  int32_t count = 0;                     // 0: the machine has none
  int64_t memory_bytes = 0;              // that an engine may take
  double memory_bytes_per_s = 0;         // read by kernels
  double launch_us = 0;                  // from the start of one small op to the start of the next
  RateCurve matmul_flops_per_s;          // dense products, by rows
  std::vector<ExpertRateCurve> experts;  // grouped products; not empty if there is a GPU
  double attention_flops_per_s = 0;      // of prompts
  double spread = 0;                     // as of the host
};

// Between the host and one GPU, pinned memory.
struct LinkProfile {
  RateCurve h2d_bytes_per_s;  // by bytes of one copy
  RateCurve d2h_bytes_per_s;
  double both_bytes_per_s = 0;  // both directions at once, in sum, large copies
  double latency_us = 0;        // of a small copy
  double spread = 0;            // as of the host
};

// What the machine draws. 0 throughout: not known, and joules are not predicted.
struct PowerProfile {
  double idle_watts = 0;  // the whole box with nothing to do
  double gpu_watts = 0;   // more while a GPU computes, each
  double cpu_watts = 0;   // more while the compute threads work
  double link_watts = 0;  // more while copies run, each link
};

struct HardwareProfile {
  std::string name;
  std::string source;       // "probed 2026-11-22", or where the figures are from
  std::string fingerprint;  // of the machine that was probed; empty: written by hand
  HostProfile host;
  GpuProfile gpu;
  LinkProfile link;
  PowerProfile power;

  bool has_gpu() const { return gpu.count > 0; }
};

// InvalidArgument naming the first field that is missing or out of range, as in the YAML form:
// "host.attention[0].bytes_per_s".
absl::Status ValidateHardwareProfile(const HardwareProfile& profile);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_HARDWARE_PROFILE_H_
