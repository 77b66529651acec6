// The roof of what computes: multiply-adds on registers alone. Included by isa_*.cc after a pairs
// header; a variant with wider products than DotPairs() brings a loop of its own.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_PEAK_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_PEAK_INL_H_

namespace moelight {
namespace {

// Independent sums: at least latency times throughput of any machine so far (5 cycles * 2), and
// with both operands within the registers. On AVX2 a Vec is two of the 16.
#if defined(__AVX512F__)
constexpr int kPeakSums = 12;
#else
constexpr int kPeakSums = 5;
#endif
// A multiplication and an addition for 16 rows and the two columns of a pair.
constexpr int64_t kDotPairsFlops = int64_t{16} * 2 * 2;

int64_t PeakFlops(int64_t rounds) {
  // Zeros that the compiler cannot know: it may neither fold the products, nor drop them, nor see
  // that all sums are the same.
  alignas(64) uint16_t weights[32] = {};
  alignas(64) Act activations[2] = {};
  alignas(64) float sums_in_memory[kPeakSums * 16] = {};
  asm volatile("" : : "r"(weights), "r"(activations), "r"(sums_in_memory) : "memory");
  const WeightPairs w = LoadPairs(weights);
  const ActPair a = LoadActPair(activations);
  Vec sums[kPeakSums];
#pragma GCC unroll 16
  for (int i = 0; i < kPeakSums; ++i) sums[i] = Load(sums_in_memory + 16 * i);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kPeakSums; ++i) sums[i] = DotPairs(sums[i], a, w);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kPeakSums; ++i) Store(sums_in_memory + 16 * i, sums[i]);
  asm volatile("" : : "r"(sums_in_memory) : "memory");
  return rounds * kPeakSums * kDotPairsFlops;
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_PEAK_INL_H_
