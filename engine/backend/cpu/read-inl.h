// The roof of what reads: memory from beginning to end, once. Included by isa_*.cc after a simd
// header.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_READ_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_READ_INL_H_

namespace moelight {
namespace {

constexpr int64_t kReadLineFloats = 16;  // a cache line
constexpr int kReadLines = 4;            // of one turn of the loop, kReadBytes together

void ReadStream(const void* data, int64_t bytes, int64_t ahead_bytes) {
  const float* line = static_cast<const float*>(data);
  const float* const end = line + bytes / int64_t{sizeof(float)};
  Vec largest[kReadLines];
#pragma GCC unroll 4
  for (int i = 0; i < kReadLines; ++i) largest[i] = Zero();
  for (; line < end; line += kReadLines * kReadLineFloats) {
#pragma GCC unroll 4
    for (int i = 0; i < kReadLines; ++i) {
      const float* at = line + i * kReadLineFloats;
      // Behind the end it fetches nothing or what nobody asked for; it does not fault.
      _mm_prefetch(reinterpret_cast<const char*>(at) + ahead_bytes, _MM_HINT_T0);
      // Max takes as long for any bits; a sum would be slow on denormal ones.
      largest[i] = Max(Load(at), largest[i]);
    }
  }
  alignas(64) float out[kReadLines * kReadLineFloats];
#pragma GCC unroll 4
  for (int i = 0; i < kReadLines; ++i) Store(out + i * kReadLineFloats, largest[i]);
  asm volatile("" : : "r"(out) : "memory");
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_READ_INL_H_
