// Products of column pairs with the dot product instruction of AVX512-BF16.
//
// Included by isa_avx512_bf16.cc after its simd header; pairs_f32-inl.h is the alternative.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_PAIRS_BF16_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_PAIRS_BF16_INL_H_

namespace moelight {
namespace {

// A packed activation: bf16.
using Act = uint16_t;

// One line of bf16_tiled: a column pair of 16 rows.
using WeightPairs = __m512i;
inline WeightPairs LoadPairs(const uint16_t* p) { return _mm512_loadu_si512(p); }

// A pair of activations, broadcast.
using ActPair = __m512i;
inline ActPair LoadActPair(const Act* a) {
  int32_t pair;
  __builtin_memcpy(&pair, a, sizeof(pair));
  return _mm512_set1_epi32(pair);
}

inline Vec DotPairs(Vec sum, ActPair a, WeightPairs w) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(w));
}

inline void StoreAct(Act* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_PAIRS_BF16_INL_H_
