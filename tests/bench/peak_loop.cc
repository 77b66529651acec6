#include "tests/bench/peak_loop.h"

#include <immintrin.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

// More than latency times throughput of any machine so far (5 cycles * 2), and within the
// registers.
constexpr int kChains = 12;

// The operands are zero and opaque to the compiler: it may neither fold the products nor drop them.
__attribute__((target("avx2,fma"))) int64_t Avx2Loop(int64_t rounds) {
  __m256 a = _mm256_setzero_ps();
  __m256 sum[kChains] = {};
  asm volatile("" : "+x"(a));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      sum[c] = _mm256_fmadd_ps(a, a, sum[c]);
      asm volatile("" : "+x"(sum[c]));
    }
  }
  return rounds * kChains * 8 * 2;
}

__attribute__((target("avx512f"))) int64_t Avx512Loop(int64_t rounds) {
  __m512 a = _mm512_setzero_ps();
  __m512 sum[kChains] = {};
  asm volatile("" : "+v"(a));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      sum[c] = _mm512_fmadd_ps(a, a, sum[c]);
      asm volatile("" : "+v"(sum[c]));
    }
  }
  return rounds * kChains * 16 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) int64_t Avx512Bf16Loop(int64_t rounds) {
  __m512i a = _mm512_setzero_si512();
  __m512 sum[kChains] = {};
  asm volatile("" : "+v"(a));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      sum[c] =
          _mm512_dpbf16_ps(sum[c], reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(a));
      asm volatile("" : "+v"(sum[c]));
    }
  }
  return rounds * kChains * 32 * 2;
}

}  // namespace

int64_t RunPeakLoop(absl::string_view isa, int64_t rounds) {
  if (isa == "avx2") return Avx2Loop(rounds);
  if (isa == "avx512") return Avx512Loop(rounds);
  CHECK(isa == "avx512_bf16") << isa;
  return Avx512Bf16Loop(rounds);
}

}  // namespace moelight
