// Vec, 16 floats, on AVX2 and FMA: two registers. The same functions as simd_avx512.h.
//
// Included by isa_avx2.cc only, and all in an unnamed namespace: see kernels.h.
// "N" functions touch the first n of the 16 elements in memory; loads fill the rest with zeros.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_SIMD_AVX2_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_SIMD_AVX2_H_

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace moelight {
namespace {

struct Vec {
  __m256 lo, hi;
};

// Tiles of Tile() and WeighValues(): at most 8 registers of accumulators of the 16.
constexpr int kMaxTileRows = 4;
constexpr int kWideTiles = 1;
constexpr int kMaxNarrowRows = 2;  // up to so many rows, kNarrowTiles side by side
constexpr int kNarrowTiles = 2;
constexpr int kValueRows = 4;
constexpr int kValueVecs = 1;
constexpr int kScoreRows = 2;  // of ScoreWords(): 2 x 1 accumulators beside 4 parts of a word
constexpr int kScoreChains = 1;
constexpr int kRouterRows = 2;
constexpr int kRouterExperts = 2;

inline Vec Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vec Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void Store(float* p, Vec v) {
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}

// All ones in the lanes i with i + first < n.
inline __m256i FirstN(int64_t n, int first) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n) - first), lane);
}
inline Vec LoadN(const float* p, int64_t n) {
  return {_mm256_maskload_ps(p, FirstN(n, 0)), _mm256_maskload_ps(p + 8, FirstN(n, 8))};
}
inline void StoreN(float* p, Vec v, int64_t n) {
  _mm256_maskstore_ps(p, FirstN(n, 0), v.lo);
  _mm256_maskstore_ps(p + 8, FirstN(n, 8), v.hi);
}

inline Vec Add(Vec a, Vec b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline Vec Sub(Vec a, Vec b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline Vec Mul(Vec a, Vec b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline Vec Div(Vec a, Vec b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline Vec Fma(Vec a, Vec b, Vec c) {  // a * b + c
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline Vec Fnma(Vec a, Vec b, Vec c) {  // c - a * b
  return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}
// Of a number and NaN, these return `b`.
inline Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline Vec Round(Vec v) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(v.lo, kNearest), _mm256_round_ps(v.hi, kNearest)};
}

inline float Sum(Vec v) {
  const __m256 half = _mm256_add_ps(v.lo, v.hi);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
inline float MaxOf(Vec v) {
  const __m256 half = _mm256_max_ps(v.lo, v.hi);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

// 2^exponent for whole exponents in [-127, 127]; -127 gives zero.
inline __m256 PowerOfTwo(__m256 exponent) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
inline Vec ScaleByPowerOfTwo(Vec mantissa, Vec exponent) {
  return {_mm256_mul_ps(mantissa.lo, PowerOfTwo(exponent.lo)),
          _mm256_mul_ps(mantissa.hi, PowerOfTwo(exponent.hi))};
}

// Lanes i with begin <= i < end keep `v`, the others become `other`.
inline Vec KeepRange(Vec v, int32_t begin, int32_t end, Vec other) {
  const auto keep = [&](int first) {
    return _mm256_castsi256_ps(_mm256_andnot_si256(FirstN(begin, first), FirstN(end, first)));
  };
  return {_mm256_blendv_ps(other.lo, v.lo, keep(0)), _mm256_blendv_ps(other.hi, v.hi, keep(8))};
}

inline __m256 Bf16ToFloat(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline Vec LoadBf16(const uint16_t* p) {
  return {Bf16ToFloat(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          Bf16ToFloat(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline Vec LoadBf16N(const uint16_t* p, int64_t n) {
  uint16_t padded[16] = {};
  memcpy(padded, p, n * sizeof(uint16_t));
  return LoadBf16(padded);
}

// Rounds to nearest even; NaN stays NaN. The results are in the low halves of the 32-bit lanes.
inline __m256i RoundToBf16(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}
inline void StoreBf16(uint16_t* p, Vec v) {
  // The pack interleaves the 128-bit lanes of its operands; the permutation puts them in order.
  const __m256i packed = _mm256_packus_epi32(RoundToBf16(v.lo), RoundToBf16(v.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
inline void StoreBf16N(uint16_t* p, Vec v, int64_t n) {
  uint16_t padded[16];
  StoreBf16(padded, v);
  memcpy(p, padded, n * sizeof(uint16_t));
}

inline Vec LoadF16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline Vec LoadF16N(const uint16_t* p, int64_t n) {
  uint16_t padded[16] = {};
  memcpy(padded, p, n * sizeof(uint16_t));
  return LoadF16(padded);
}
inline void StoreF16N(uint16_t* p, Vec v, int64_t n) {
  uint16_t padded[16];
  __m128i* const out = reinterpret_cast<__m128i*>(padded);
  _mm_storeu_si128(out, _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(out + 1, _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT));
  memcpy(p, padded, n * sizeof(uint16_t));
}
inline Vec LoadI8(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
inline Vec LoadI8N(const int8_t* p, int64_t n) {
  int8_t padded[16] = {};
  memcpy(padded, p, n);
  return LoadI8(padded);
}
// Rounds to nearest even; values are within [-127, 127].
inline void StoreI8N(int8_t* p, Vec v, int64_t n) {
  alignas(32) int32_t whole[16];
  _mm256_store_si256(reinterpret_cast<__m256i*>(whole), _mm256_cvtps_epi32(v.lo));
  _mm256_store_si256(reinterpret_cast<__m256i*>(whole + 8), _mm256_cvtps_epi32(v.hi));
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<int8_t>(whole[i]);
}
inline Vec Abs(Vec v) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, v.lo), _mm256_andnot_ps(sign, v.hi)};
}

// A line of 16 words of 32 bits, taken apart: element e of every word.
inline __m256 F16OfWords(__m256i words) {  // those in the low halves; the high ones are zero
  const __m128i halves =
      _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  return _mm256_cvtph_ps(halves);
}
inline void SplitF16(const uint16_t* line, Vec* parts) {
  const __m256i low = _mm256_set1_epi32(0xffff);
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line));
  const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + 16));
  parts[0] = {F16OfWords(_mm256_and_si256(a, low)), F16OfWords(_mm256_and_si256(b, low))};
  parts[1] = {F16OfWords(_mm256_srli_epi32(a, 16)), F16OfWords(_mm256_srli_epi32(b, 16))};
}
template <int kLeft>
inline __m256 I8OfWords(__m256i words) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, kLeft), 24));
}
inline void SplitI8(const uint16_t* line, Vec* parts) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line));
  const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + 16));
  parts[0] = {I8OfWords<24>(a), I8OfWords<24>(b)};
  parts[1] = {I8OfWords<16>(a), I8OfWords<16>(b)};
  parts[2] = {I8OfWords<8>(a), I8OfWords<8>(b)};
  parts[3] = {I8OfWords<0>(a), I8OfWords<0>(b)};
}

// Columns [0, 8) of rows [0, 8), 32-bit elements: out[c * 16 + r] = rows[r][c].
inline void Transpose8(const char* const* rows, int64_t offset, uint16_t* out) {
  __m256i t[8], u[8];
  for (int i = 0; i < 8; ++i) {
    t[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i] + offset));
  }
  for (int i = 0; i < 8; i += 4) {  // 4 x 4 blocks within each 128-bit lane
    const __m256i a = _mm256_unpacklo_epi32(t[i], t[i + 1]);
    const __m256i b = _mm256_unpackhi_epi32(t[i], t[i + 1]);
    const __m256i c = _mm256_unpacklo_epi32(t[i + 2], t[i + 3]);
    const __m256i d = _mm256_unpackhi_epi32(t[i + 2], t[i + 3]);
    u[i] = _mm256_unpacklo_epi64(a, c);
    u[i + 1] = _mm256_unpackhi_epi64(a, c);
    u[i + 2] = _mm256_unpacklo_epi64(b, d);
    u[i + 3] = _mm256_unpackhi_epi64(b, d);
  }
  for (int i = 0; i < 4; ++i) {
    const __m256i low = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
    const __m256i high = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i * 32), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (i + 4) * 32), high);
  }
}

// Writes the 32-bit elements [0, n) of 16 rows as n columns: out[c * 16 + r] = rows[r][c], for
// n <= 16, from byte `offset` on. Elements are copied as bytes: rows need no alignment.
inline void TransposeN(const char* const* rows, int64_t offset, int64_t n, uint16_t* out) {
  int64_t column = 0;
  for (; column + 8 <= n; column += 8) {
    Transpose8(rows, offset + 4 * column, out + column * 32);
    Transpose8(rows + 8, offset + 4 * column, out + column * 32 + 16);
  }
  for (; column < n; ++column) {
    for (int r = 0; r < 16; ++r) {
      memcpy(out + column * 32 + 2 * r, rows[r] + offset + 4 * column, sizeof(uint32_t));
    }
  }
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_SIMD_AVX2_H_
