// Packed panels of activations: from rows, and from SwiGLU. Included by isa_*.cc after gemm-inl.h
// and rows-inl.h.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_PACKED_ROWS_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_PACKED_ROWS_INL_H_

namespace moelight {
namespace {

// Rows that are packed side by side: 1 KiB of the panel is then written in one piece.
constexpr int64_t kPackRows = 16;

void Pack(const PackCall& call) {
  Act* panel = static_cast<Act*>(call.panel);
  const int64_t row_end = call.row_begin + call.num_rows;
  for (int64_t first = call.row_begin; first < row_end; first += kPackRows) {
    const int64_t last = first + kPackRows < row_end ? first + kPackRows : row_end;
    for (int64_t col = 0; col < call.num_cols; col += kPackCols) {
      Act* block = panel + col * call.panel_rows;
      const int64_t left = call.num_cols - col;
      for (int64_t r = first; r < last; ++r) {
        const int64_t row = call.row_ids != nullptr ? call.row_ids[r] : r;
        const float* x = call.x + row * call.x_stride + col;
        Act* packed = block + r * kPackCols;
        if (left >= kPackCols) {
          StoreAct(packed, Load(x));
          StoreAct(packed + 16, Load(x + 16));
        } else {
          StoreAct(packed, LoadN(x, left < 16 ? left : 16));
          StoreAct(packed + 16, left > 16 ? LoadN(x + 16, left - 16) : Zero());
        }
      }
    }
  }
}

inline Vec SwigluOf(Vec gate, Vec up) {
  const Vec denominator = Add(Set(1.0f), Exp2(Mul(gate, Set(-kLog2E))));
  return Mul(Div(gate, denominator), up);
}

void Swiglu(const SwigluCall& call) {
  const int64_t tile_stride = GemmSumRows(call.num_rows) * kTileRows;
  for (int64_t i = 0; i < call.padded_cols; i += kTileRows) {
    const int64_t col = call.col_begin + i;
    Act* packed = static_cast<Act*>(call.panel) + col / kPackCols * kPackCols * call.panel_rows +
                  col % kPackCols;
    const float* gate = call.gate + i * tile_stride / kTileRows;
    const float* up = call.up + i * tile_stride / kTileRows;
    const int64_t lanes = call.num_cols - i;
    for (int64_t r = 0; r < call.num_rows; ++r, packed += kPackCols) {
      Vec h = Zero();
      if (lanes >= kTileRows && call.up_offset == 0) {
        h = SwigluOf(Load(gate + r * kTileRows), Load(up + r * kTileRows));
      } else if (lanes > 0) {
        // The columns of `up` lie in two tiles.
        const int64_t n = lanes < kTileRows ? lanes : kTileRows;
        alignas(64) float both[2 * kTileRows];
        Store(both, Load(up + r * kTileRows));
        if (call.up_offset + n > kTileRows) {
          Store(both + kTileRows, Load(up + tile_stride + r * kTileRows));
        }
        h = SwigluOf(LoadN(gate + r * kTileRows, n), LoadN(both + call.up_offset, n));
      }
      StoreAct(packed, h);
    }
  }
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_PACKED_ROWS_INL_H_
