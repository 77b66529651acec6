// The few instructions that CUDA C++ has no name for.
//
// Shared memory is named by its 32-bit address, as the instructions want it.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_MOE_PTX_CUH_
#define MOELIGHT_ENGINE_BACKEND_CUDA_MOE_PTX_CUH_

#include <cstdint>

#include <cuda_bf16.h>

#include "engine/backend/cuda/turing.cuh"

namespace moelight {

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies `num_bytes` (16, or 0 for 16 zeros) from `from`; both are aligned to 16.
__device__ __forceinline__ void CopyAsync16(uint32_t to, const void* from, int num_bytes) {
#if MOELIGHT_TURING
  CopySixteen(to, from, num_bytes != 0);
#else
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from),
               "r"(num_bytes)
               : "memory");
#endif
}

// The same for 4 bytes.
__device__ __forceinline__ void CopyAsync4(uint32_t to, const void* from, int num_bytes) {
#if MOELIGHT_TURING
  CopyFour(to, from, num_bytes != 0);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(to), "l"(from), "r"(num_bytes)
               : "memory");
#endif
}

// Ends a group of this thread's copies.
__device__ __forceinline__ void CommitCopies() {
#if !MOELIGHT_TURING
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits for all groups of this thread but the last kNumPending.
template <int kNumPending>
__device__ __forceinline__ void WaitForCopies() {
#if !MOELIGHT_TURING
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kNumPending) : "memory");
#endif
}

__device__ __forceinline__ uint2 LoadShared8(uint32_t address) {
  uint2 value;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];\n"
               : "=r"(value.x), "=r"(value.y)
               : "r"(address)
               : "memory");
  return value;
}

// Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8 and gets elements
// 2 * (l % 4) and the next one of row l / 4 of each matrix.
__device__ __forceinline__ void LoadMatrices4(uint32_t (&value)[4], uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
               : "r"(row_address)
               : "memory");
}

// d += a * b: a 16x16 by row, b 16x8 by column, bf16 with f32 sums.
__device__ __forceinline__ void MultiplyAdd16x8x16(float (&d)[4], const uint2& a_low,
                                                   const uint2& a_high, uint32_t b_low,
                                                   uint32_t b_high) {
#if MOELIGHT_TURING
  MultiplyAddByShuffles(d, a_low.x, a_low.y, a_high.x, a_high.y, b_low, b_high);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a_low.x), "r"(a_low.y), "r"(a_high.x), "r"(a_high.y), "r"(b_low), "r"(b_high));
#endif
}

// Rounded to nearest even; `low` comes first in memory.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_MOE_PTX_CUH_
