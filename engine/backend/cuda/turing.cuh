// What Turing (sm_75) lacks, in instructions that it has: copies to shared memory that a thread
// does not wait for, and tensor core products in bf16. The copies become loads and stores, which is
// one of the orders that the asynchronous ones may be carried out in. A product becomes shuffles
// and fused multiply-adds in f32: a sixteenth of what the GPU's tensor cores do in f16, but more
// than a link brings weights for.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_TURING_CUH_
#define MOELIGHT_ENGINE_BACKEND_CUDA_TURING_CUH_

#include <cstdint>

// Of the device that is being compiled for; on the host, nothing depends on it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define MOELIGHT_TURING 1
#else
#define MOELIGHT_TURING 0
#endif

namespace moelight {

// Copies 16 bytes (4 bytes) to the shared address `to`, or zeros if not `valid`.
__device__ __forceinline__ void CopySixteen(uint32_t to, const void* from, bool valid) {
  const uint4 value = valid ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};\n" ::"r"(to), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}
__device__ __forceinline__ void CopyFour(uint32_t to, const void* from, bool valid) {
  const uint32_t value = valid ? *static_cast<const uint32_t*>(from) : 0;
  asm volatile("st.shared.u32 [%0], %1;\n" ::"r"(to), "r"(value) : "memory");
}

__device__ __forceinline__ float LowBf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float HighBf16(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

// d += a * b, operands as of mma.m16n8k16: of lane l, a0 and a2 are row l / 4 of a, columns
// 2 * (l % 4) and the next, and those 8 further; a1 and a3 the same of row l / 4 + 8. b0 and b1 are
// the same rows of column l / 4 of b. REQUIRES: the whole warp calls it.
__device__ __forceinline__ void MultiplyAddByShuffles(float (&d)[4], uint32_t a0, uint32_t a1,
                                                      uint32_t a2, uint32_t a3, uint32_t b0,
                                                      uint32_t b1) {
  constexpr uint32_t kAllLanes = 0xffffffffu;
  const int lane = threadIdx.x % 32;
  // A loop, or the kernels would be so long that they took minutes to compile.
#pragma unroll 1
  for (int source = 0; source < 4; ++source) {
    const int row_lane = lane / 4 * 4 + source;
    // This lane's results are in columns 2 * (lane % 4) and the next.
    const int column_lane = lane % 4 * 8 + source;
    const uint32_t a[4] = {
        __shfl_sync(kAllLanes, a0, row_lane), __shfl_sync(kAllLanes, a1, row_lane),
        __shfl_sync(kAllLanes, a2, row_lane), __shfl_sync(kAllLanes, a3, row_lane)};
    const uint32_t b[4] = {
        __shfl_sync(kAllLanes, b0, column_lane), __shfl_sync(kAllLanes, b0, column_lane + 4),
        __shfl_sync(kAllLanes, b1, column_lane), __shfl_sync(kAllLanes, b1, column_lane + 4)};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t x = a[2 * half + i / 2];
        const uint32_t y = b[2 * half + i % 2];
        d[i] = fmaf(HighBf16(x), HighBf16(y), fmaf(LowBf16(x), LowBf16(y), d[i]));
      }
    }
  }
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_TURING_CUH_
