// Vec, 16 floats, on AVX-512 (F, BW, DQ, VL). simd_avx2.h has the same functions.
//
// Included by isa_*.cc only, and all in an unnamed namespace: see kernels.h.
// "N" functions touch the first n of the 16 elements in memory; loads fill the rest with zeros.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_SIMD_AVX512_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_SIMD_AVX512_H_

#include <immintrin.h>
#include <stdint.h>

namespace moelight {
namespace {

using Vec = __m512;

// Tiles of Tile() and WeighValues(): 12 x 2 or 4 x 4 accumulators of the 32 registers.
constexpr int kMaxTileRows = 12;
constexpr int kWideTiles = 2;
constexpr int kMaxNarrowRows = 3;  // up to so many rows, kNarrowTiles side by side
constexpr int kNarrowTiles = 4;
constexpr int kValueRows = 4;
constexpr int kValueVecs = 4;
constexpr int kScoreRows = 4;  // of ScoreWords(): 4 x 4 accumulators
constexpr int kScoreChains = 4;
constexpr int kRouterRows = 4;
constexpr int kRouterExperts = 4;

inline __mmask16 FirstN(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

inline Vec Zero() { return _mm512_setzero_ps(); }
inline Vec Set(float x) { return _mm512_set1_ps(x); }
inline Vec Load(const float* p) { return _mm512_loadu_ps(p); }
inline Vec LoadN(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(FirstN(n), p); }
inline void Store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline void StoreN(float* p, Vec v, int64_t n) { _mm512_mask_storeu_ps(p, FirstN(n), v); }

inline Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
inline Vec Fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
// Of a number and NaN, these return `b`.
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Round(Vec v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

inline float Sum(Vec v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
inline float MaxOf(Vec v) {
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

// mantissa * 2^exponent for whole exponents in [-127, 127]; -127 gives zero.
inline Vec ScaleByPowerOfTwo(Vec mantissa, Vec exponent) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(exponent), _mm512_set1_epi32(127));
  return _mm512_mul_ps(mantissa, _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23)));
}

// Lanes i with begin <= i < end keep `v`, the others become `other`.
inline Vec KeepRange(Vec v, int32_t begin, int32_t end, Vec other) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __mmask16 keep = _mm512_mask_cmplt_epi32_mask(
      _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(begin)), lane, _mm512_set1_epi32(end));
  return _mm512_mask_blend_ps(keep, other, v);
}

inline Vec Bf16ToVec(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline Vec LoadBf16(const uint16_t* p) {
  return Bf16ToVec(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec LoadBf16N(const uint16_t* p, int64_t n) {
  return Bf16ToVec(_mm256_maskz_loadu_epi16(FirstN(n), p));
}

// Rounds to nearest even; NaN stays NaN.
inline __m256i VecToBf16(Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16));
}
inline void StoreBf16(uint16_t* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), VecToBf16(v));
}
inline void StoreBf16N(uint16_t* p, Vec v, int64_t n) {
  _mm256_mask_storeu_epi16(p, FirstN(n), VecToBf16(v));
}

inline Vec LoadF16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec LoadF16N(const uint16_t* p, int64_t n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(FirstN(n), p));
}
inline void StoreF16N(uint16_t* p, Vec v, int64_t n) {
  _mm256_mask_storeu_epi16(p, FirstN(n), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
inline Vec LoadI8(const int8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Vec LoadI8N(const int8_t* p, int64_t n) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(FirstN(n), p)));
}
// Rounds to nearest even; values are within [-127, 127].
inline void StoreI8N(int8_t* p, Vec v, int64_t n) {
  _mm_mask_storeu_epi8(p, FirstN(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}
inline Vec Abs(Vec v) { return _mm512_abs_ps(v); }

// A line of 16 words of 32 bits, taken apart: element e of every word.
inline void SplitF16(const uint16_t* line, Vec* parts) {
  const __m512i words = _mm512_loadu_si512(line);
  parts[0] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
  parts[1] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
}
inline void SplitI8(const uint16_t* line, Vec* parts) {
  const __m512i words = _mm512_loadu_si512(line);
  parts[0] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 24), 24));
  parts[1] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 16), 24));
  parts[2] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 8), 24));
  parts[3] = _mm512_cvtepi32_ps(_mm512_srai_epi32(words, 24));
}

// Writes the 32-bit elements [0, n) of 16 rows as n columns: out[c * 16 + r] = rows[r][c], for
// n <= 16, from byte `offset` on. Elements are copied as bytes: rows need no alignment.
inline void TransposeN(const char* const* rows, int64_t offset, int64_t n, uint16_t* out) {
  __m512i t[16], u[16];
  for (int i = 0; i < 16; ++i) t[i] = _mm512_maskz_loadu_epi32(FirstN(n), rows[i] + offset);
  for (int i = 0; i < 16; i += 4) {  // 4 x 4 blocks within each 128-bit lane
    const __m512i a = _mm512_unpacklo_epi32(t[i], t[i + 1]);
    const __m512i b = _mm512_unpackhi_epi32(t[i], t[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(t[i + 2], t[i + 3]);
    const __m512i d = _mm512_unpackhi_epi32(t[i + 2], t[i + 3]);
    u[i] = _mm512_unpacklo_epi64(a, c);
    u[i + 1] = _mm512_unpackhi_epi64(a, c);
    u[i + 2] = _mm512_unpacklo_epi64(b, d);
    u[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  for (int i = 0; i < 4; ++i) {  // then the 4 x 4 matrix of lanes; column c = 4 * lane + i
    const __m512i a = _mm512_shuffle_i32x4(u[i], u[i + 4], 0x44);
    const __m512i b = _mm512_shuffle_i32x4(u[i], u[i + 4], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(u[i + 8], u[i + 12], 0x44);
    const __m512i d = _mm512_shuffle_i32x4(u[i + 8], u[i + 12], 0xee);
    t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int c = 0; c < 16; ++c) {
    if (c < n) _mm512_storeu_si512(out + c * 32, t[c]);
  }
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_SIMD_AVX512_H_
