// Products of column pairs with fp32 activations: two FMAs per pair of bf16 weights.
//
// Included by isa_*.cc after their simd header; pairs_bf16-inl.h is the alternative.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_PAIRS_F32_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_PAIRS_F32_INL_H_

namespace moelight {
namespace {

// A packed activation.
using Act = float;

// One line of bf16_tiled: a column pair of 16 rows.
struct WeightPairs {
  Vec even, odd;
};

#if defined(__AVX512F__)
inline WeightPairs LoadPairs(const uint16_t* p) {
  const __m512i bits = _mm512_loadu_si512(p);
  return {
      _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
      _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000))))};
}
#else
inline WeightPairs LoadPairs(const uint16_t* p) {
  const __m256i lo = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i hi = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16));
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  return {{_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
           _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))},
          {_mm256_castsi256_ps(_mm256_and_si256(lo, mask)),
           _mm256_castsi256_ps(_mm256_and_si256(hi, mask))}};
}
#endif

// A pair of activations, broadcast.
struct ActPair {
  Vec even, odd;
};
inline ActPair LoadActPair(const Act* a) { return {Set(a[0]), Set(a[1])}; }

inline Vec DotPairs(Vec sum, ActPair a, WeightPairs w) {
  return Fma(a.odd, w.odd, Fma(a.even, w.even, sum));
}

inline void StoreAct(Act* p, Vec v) { Store(p, v); }

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_PAIRS_F32_INL_H_
