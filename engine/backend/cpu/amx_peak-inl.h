// The roof of what computes on AMX: products of tiles that are already there. Included by isa files
// after amx_gemm-inl.h, in the place of peak-inl.h.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_AMX_PEAK_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_AMX_PEAK_INL_H_

namespace moelight {
namespace {

// Four sums, as many as a product of 2 x 2 tiles has. An operand of zeros is as good as any.
int64_t PeakFlops(int64_t rounds) {
  constexpr int64_t kSums = 4;
  constexpr int64_t kTileFlops = int64_t{2} * 16 * 16 * 32;
  ConfigureTiles(2 * kAmxRows);
  ZeroTile<0>();
  ZeroTile<1>();
  ZeroTile<2>();
  ZeroTile<3>();
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
  return rounds * kSums * kTileFlops;
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_AMX_PEAK_INL_H_
