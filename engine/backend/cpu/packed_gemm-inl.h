// CpuKernels::gemm on vector registers: passes over the columns of packed panels. Included by
// isa_*.cc after gemm-inl.h; amx_gemm-inl.h is the alternative.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_PACKED_GEMM_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_PACKED_GEMM_INL_H_

namespace moelight {
namespace {

// Rows that go over all weight tiles of a task before the next do. Their part of a pass, 128 KiB of
// bf16, stays in L2 (1 MiB on the smallest in use) beside the weights, 256 KiB for 16 tiles.
constexpr int64_t kGemmInnerRows = 128;

void Gemm(const GemmCall& call) {
  PanelCall panel;
  panel.a_block_stride = call.panel_rows * kPackCols;
  panel.tile_stride = (call.num_cols + 1) / 2 * kPairElements;
  panel.num_tiles = call.tile_end - call.tile_begin;
  const int64_t last_tile_cols =
      call.tile_end * kTileRows > call.weight_rows ? call.weight_rows % kTileRows : kTileRows;
  const uint16_t* w = call.weight + call.tile_begin * panel.tile_stride;
  const int64_t sum_tile_stride = GemmSumRows(call.num_rows) * kTileRows;
  // Rows of one register tile read weights once, so that these should come in long runs.
  const int64_t pass_cols = call.num_rows <= kMaxTileRows ? call.num_cols : kGemmPassCols;
  for (int64_t col = call.col_begin; col < call.col_end; col += pass_cols) {
    const bool first = col == 0;
    const bool last = col + pass_cols >= call.num_cols;
    panel.w = w + col / 2 * kPairElements;
    panel.num_pairs = ((last ? call.num_cols - col : pass_cols) + 1) / 2;
    panel.last_tile_cols = kTileRows;
    if (!first) {
      panel.in = call.sums;
      panel.in_stride = kTileRows;
      panel.in_tile_stride = sum_tile_stride;
    } else if (call.accumulate) {
      panel.in = call.y;
      panel.in_stride = call.y_stride;
      panel.in_tile_stride = kTileRows;
      panel.last_tile_cols = last_tile_cols;
    }
    if (last && call.y != nullptr) {
      panel.y = call.y;
      panel.y_stride = call.y_stride;
      panel.y_tile_stride = kTileRows;
      panel.last_tile_cols = last_tile_cols;
    } else {
      panel.y = call.sums;
      panel.y_stride = kTileRows;
      panel.y_tile_stride = sum_tile_stride;
    }
    const PanelCall whole = panel;
    const int64_t num_inner = (call.num_rows + kGemmInnerRows - 1) / kGemmInnerRows;
    int64_t row = 0;
    for (int64_t i = 1; i <= num_inner; ++i) {
      const int64_t row_end = i * call.num_rows / num_inner;
      panel.num_rows = row_end - row;
      panel.a = static_cast<const Act*>(call.a) + col * call.panel_rows + row * kPackCols;
      panel.in = whole.in != nullptr ? whole.in + row * panel.in_stride : nullptr;
      panel.y = whole.y + row * panel.y_stride;
      panel.next_w = i < num_inner || last ? panel.w : panel.w + pass_cols / 2 * kPairElements;
      RunPanel<kPackCols>(panel);
      row = row_end;
    }
  }
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_PACKED_GEMM_INL_H_
