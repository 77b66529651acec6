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

// A tile configuration: palette 1, all eight tiles 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Four sums, as many as a product of 2 x 2 tiles has. An operand of zeros is as good as any.
__attribute__((target("amx-tile,amx-bf16"))) int64_t AmxBf16Loop(int64_t rounds) {
  const TileConfig config;
  // The intrinsic tells the compiler of the first bytes only.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * 32 * 2;
}

__attribute__((target("avx2"))) void Avx2ReadLoop(const char* data, int64_t bytes) {
  __m256i sum[4] = {};
  for (int64_t i = 0; i < bytes; i += 256) {
    const __m256i* lines = reinterpret_cast<const __m256i*>(data + i);
    for (int part = 0; part < 8; ++part) {
      sum[part % 4] = _mm256_xor_si256(sum[part % 4], _mm256_load_si256(lines + part));
    }
  }
  for (__m256i& part : sum) asm volatile("" : "+x"(part));
}

}  // namespace

void RunReadLoop(const char* data, int64_t bytes) { Avx2ReadLoop(data, bytes); }

int64_t RunPeakLoop(absl::string_view isa, int64_t rounds) {
  if (isa == "avx2") return Avx2Loop(rounds);
  if (isa == "avx512") return Avx512Loop(rounds);
  if (isa == "avx512_bf16") return Avx512Bf16Loop(rounds);
  CHECK(isa == "amx_bf16") << isa;
  return AmxBf16Loop(rounds);
}

}  // namespace moelight
