// The expert mode of gemm_bench: one expert's three matrices through MoeFfn, against its roofs and,
// where CMake found it, against oneDNN.
#ifndef MOELIGHT_TESTS_BENCH_EXPERT_BENCH_H_
#define MOELIGHT_TESTS_BENCH_EXPERT_BENCH_H_

#include <cstdint>

#include <absl/strings/string_view.h>
#include <absl/types/span.h>

namespace moelight {

// For variant `isa`, or all if it is empty.
void BenchExperts(int num_threads, int64_t hidden_size, int64_t intermediate_size,
                  absl::string_view isa, absl::Span<const int64_t> tokens);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_BENCH_EXPERT_BENCH_H_
