// Goal: the product that Turing makes by shuffles is that of mma.m16n8k16, whose operands the
// kernels lay out. No machine of the project has such a GPU; here its warp is 32 lanes one after
// the other.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>

#include <gtest/gtest.h>

namespace {

using Words = std::array<uint32_t, 32>;  // a register of all lanes
struct Warp {
  Words a0, a1, a2, a3, b0, b1;
};
Warp warp;
struct {
  int x;
} threadIdx;

}  // namespace

// What CUDA C++ has and the host has not. A shuffle reads a register by the name of the variable.
#define __device__
#define __forceinline__ inline
#define __shfl_sync(mask, name, lane) ((void)mask, (void)name, warp.name[lane])
struct uint4 {
  uint32_t x, y, z, w;
};
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
#include "engine/backend/cuda/turing.cuh"
#undef __device__
#undef __forceinline__
#undef __shfl_sync

namespace moelight {
namespace {

constexpr int kRows = 16, kColumns = 8, kDepth = 16;

// A small integer, which bf16 and every order of sums hold exactly.
uint32_t ToBf16(int value) { return std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16; }
uint32_t Pair(int low, int high) { return ToBf16(low) | ToBf16(high) << 16; }

TEST(TuringTest, ShufflesMultiplyLikeTheTensorCores) {
  std::mt19937 random(7);
  std::uniform_int_distribution<int> value(-9, 9);
  int a[kRows][kDepth], b[kDepth][kColumns];
  for (auto& row : a) {
    for (int& element : row) element = value(random);
  }
  for (auto& row : b) {
    for (int& element : row) element = value(random);
  }
  // Operands as the PTX manual has them for m16n8k16 with 16-bit elements: a by row, b by column.
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, k = lane % 4 * 2;
    warp.a0[lane] = Pair(a[group][k], a[group][k + 1]);
    warp.a1[lane] = Pair(a[group + 8][k], a[group + 8][k + 1]);
    warp.a2[lane] = Pair(a[group][k + 8], a[group][k + 9]);
    warp.a3[lane] = Pair(a[group + 8][k + 8], a[group + 8][k + 9]);
    warp.b0[lane] = Pair(b[k][group], b[k + 1][group]);
    warp.b1[lane] = Pair(b[k + 8][group], b[k + 9][group]);
  }
  for (int lane = 0; lane < 32; ++lane) {
    threadIdx.x = 96 + lane;  // of any warp of a block
    float d[4] = {1, 2, 3, 4};
    MultiplyAddByShuffles(d, warp.a0[lane], warp.a1[lane], warp.a2[lane], warp.a3[lane],
                          warp.b0[lane], warp.b1[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      int sum = i + 1;
      for (int k = 0; k < kDepth; ++k) sum += a[row][k] * b[k][column];
      EXPECT_EQ(d[i], sum) << "lane " << lane << " element " << i;
    }
  }
}

}  // namespace
}  // namespace moelight
