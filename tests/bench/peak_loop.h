// The roofs of the matrix products: multiply-adds on registers alone, and reads of memory alone.
#ifndef MOELIGHT_TESTS_BENCH_PEAK_LOOP_H_
#define MOELIGHT_TESTS_BENCH_PEAK_LOOP_H_

#include <cstdint>

#include <absl/strings/string_view.h>

namespace moelight {

// Runs `rounds` of independent multiply-adds with the widest instruction that the variant `isa` of
// the cpu backend uses, on the calling thread. Returns the number of floating-point operations.
int64_t RunPeakLoop(absl::string_view isa, int64_t rounds);

// Reads `bytes`, a multiple of 256, from `data`, aligned to 64, on the calling thread.
void RunReadLoop(const char* data, int64_t bytes);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_BENCH_PEAK_LOOP_H_
