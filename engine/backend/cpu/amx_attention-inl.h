// Scores and weighted values of attention on AMX tiles. Included by isa_amx_bf16.cc after
// amx_gemm-inl.h and attention_dots-inl.h.
//
// A step's keys are copied, and brought to bf16 if they are int8, so that 16 of them are the rows
// of a tile; queries, transposed once, are the other operand, 16 at a time. Values are interleaved
// two keys at a time, as the operand of weights that are rounded to bf16. Copies and tiles cost the
// same whatever the number of query heads, the dot products of attention_dots-inl.h grow with it:
// on a Xeon of 15 threads and heads of 128, bf16, one query head per key reads 74 GB/s here and 106
// there, 4 heads 77 and 105, 8 heads 64 and 67, and 16 heads 58 and 37. Hence kMaxPairGroup.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_AMX_ATTENTION_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_AMX_ATTENTION_INL_H_

namespace moelight {
namespace {

// 32 elements of K or V as bf16.
struct AmxBf16Elements {
  using Element = uint16_t;
  static __m512i Load(const char* p, __mmask32 mask) { return _mm512_maskz_loadu_epi16(mask, p); }
};
struct AmxI8Elements {
  using Element = int8_t;
  // Whole numbers up to 127 are exact in bf16.
  static __m512i Load(const char* p, __mmask32 mask) {
    const __m256i bytes = _mm256_maskz_loadu_epi8(mask, p);
    const __m512i low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes));
    const __m512i high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1));
    return reinterpret_cast<__m512i>(
        _mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(high), _mm512_cvtepi32_ps(low)));
  }
};

template <typename Elements>
struct AmxDots {
  static constexpr bool kExists = true;
  static constexpr bool kInterleaved = true;
  static constexpr int64_t kTileWords = kAmxTileBytes / 4;
  static constexpr int64_t kElementSize = sizeof(typename Elements::Element);

  static void Begin() { ConfigureTiles(kAmxBlockRows); }
  static void End() { _tile_release(); }
  static void SortColumns(Vec* first, Vec* second) { SortPairColumns(first, second); }

  // Queries of 16 rows: [blocks of 32 columns][16 pairs][16 rows], zeros where there is none.
  static uint32_t* QueryTiles(const AttentionScratch& scratch, int64_t row) {
    return reinterpret_cast<uint32_t*>(scratch.q + row * kQueryRowBytes);
  }

  static void PackQueries(const AttentionCall& call, int64_t head, int64_t num_rows,
                          const AttentionScratch& scratch) {
    const int64_t padded = PadTo32(call.head_dim);
    alignas(64) uint16_t rows[kAmxRows][kMaxHeadDim];
    const char* row_at[kAmxRows];
    for (int64_t r = 0; r < kAmxRows; ++r) row_at[r] = reinterpret_cast<const char*>(rows[r]);
    for (int64_t row = 0; row < num_rows; row += kAmxRows) {
      const int64_t n = num_rows - row < kAmxRows ? num_rows - row : kAmxRows;
      for (int64_t r = 0; r < kAmxRows; ++r) {
        const int64_t num_cols = r < n ? call.head_dim : 0;
        PackRow16<Bf16Dots>(QueryRow(call, head, r < n ? row + r : row), num_cols, padded, rows[r]);
      }
      uint32_t* tiles = QueryTiles(scratch, row);
      for (int64_t col = 0; col < padded; col += kDotElements, tiles += kTileWords) {
        TransposeN(row_at, col * 2, kAmxRows, reinterpret_cast<uint16_t*>(tiles));
      }
    }
  }

  // K of the step's tiles as rows of bf16.
  static void CopyKeys(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                       const AttentionScratch& scratch) {
    const int64_t padded = PadTo32(call.head_dim);
    const int32_t begin = step.begin / 16 * 16;
    const int32_t end = (step.end + 15) / 16 * 16;
    KeyPrefetch prefetch(next, RowBytes<Elements>(call), 0, end - begin);
    for (int32_t i = begin; i < end; ++i) {
      prefetch.Next();
      for (int64_t col = 0; col < padded; col += kDotElements) {
        _mm512_store_si512(
            scratch.k + i * padded + col,
            Elements::Load(step.keys[i] + col * kElementSize, First32(call.head_dim - col)));
      }
    }
    prefetch.Rest();
    FinishStores(scratch.k);
  }

  // V of the step's keys, two by two, in blocks of 32 keys.
  static void PairValues(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                         const AttentionScratch& scratch) {
    const int64_t padded = PadTo32(call.head_dim);
    const int32_t begin = step.begin / 32 * 32;
    const int32_t end = (step.end + 31) / 32 * 32;
    KeyPrefetch prefetch(next, RowBytes<Elements>(call), call.v_offset, (end - begin) / 2);
    for (int32_t i = begin; i < end; i += 2) {
      prefetch.Next();
      uint16_t* to = scratch.v + i * padded;
      for (int64_t col = 0; col < padded; col += kDotElements) {
        const int64_t offset = call.v_offset + col * kElementSize;
        const __mmask32 mask = First32(call.head_dim - col);
        const __m512i a = Elements::Load(step.keys[i] + offset, mask);
        const __m512i b = Elements::Load(step.keys[i + 1] + offset, mask);
        _mm512_store_si512(to + 2 * col, _mm512_unpacklo_epi16(a, b));
        _mm512_store_si512(to + 2 * col + kDotElements, _mm512_unpackhi_epi16(a, b));
      }
    }
    prefetch.Rest();
    FinishStores(scratch.v);
  }

  // Scores of 16 rows against four tiles of keys, of which some may be left over from before.
  static void ScoreTiles(int64_t padded, const uint16_t* keys, const uint32_t* queries,
                         float (*scores)[kTileWords]) {
    const int64_t stride = padded * 2;
    const char* k = reinterpret_cast<const char*>(keys);
    const int64_t tile_bytes = kAmxRows * stride;
    ZeroTile<0>();
    ZeroTile<1>();
    ZeroTile<2>();
    ZeroTile<3>();
    for (int64_t col = 0; col < padded; col += kDotElements, queries += kTileWords) {
      const char* at = k + col * 2;
      _tile_loadd(6, queries, kAmxRowBytes);
      _tile_loadd(4, at, stride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, at + tile_bytes, stride);
      _tile_dpbf16ps(1, 5, 6);
      _tile_loadd(4, at + 2 * tile_bytes, stride);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(5, at + 3 * tile_bytes, stride);
      _tile_dpbf16ps(3, 5, 6);
    }
    StoreTile<0>(scores[0], kAmxRowBytes);
    StoreTile<1>(scores[1], kAmxRowBytes);
    StoreTile<2>(scores[2], kAmxRowBytes);
    StoreTile<3>(scores[3], kAmxRowBytes);
    FinishStores(scores);
  }

  static void Score(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                    int64_t num_rows, const AttentionScratch& scratch) {
    CopyKeys(call, step, next, scratch);
    alignas(64) float by_key[kKeyTiles][kTileWords];
    alignas(64) float by_row[kTileWords];
    for (int64_t row = 0; row < num_rows; row += kAmxRows) {
      const int64_t n = num_rows - row < kAmxRows ? num_rows - row : kAmxRows;
      ScoreTiles(PadTo32(call.head_dim), scratch.k, QueryTiles(scratch, row), by_key);
      for (int64_t tile = step.begin / 16; tile < (step.end + 15) / 16; ++tile) {
        const char* key_at[kAmxRows];
        for (int64_t i = 0; i < kAmxRows; ++i) {
          key_at[i] = reinterpret_cast<const char*>(by_key[tile] + i * 16);
        }
        TransposeN(key_at, 0, n, reinterpret_cast<uint16_t*>(by_row));
        for (int64_t r = 0; r < n; ++r) {
          Store(scratch.weights + (row + r) * kAttentionKeys + tile * 16, Load(by_row + r * 16));
        }
      }
    }
  }

  // sums of 16 rows and kTiles tiles of columns += weights times values of blocks of 32 keys.
  template <int kTiles>
  static void WeighTiles(const KeyStep& step, int64_t padded, const uint16_t* weights,
                         const uint16_t* values, float* sums) {
    const int64_t stride = padded * 4;
    LoadTile<0>(sums, stride);
    LoadTile<1>(sums + 16, stride);
    if constexpr (kTiles == 4) {
      LoadTile<2>(sums + 32, stride);
      LoadTile<3>(sums + 48, stride);
    }
    for (int32_t key = step.begin / 32 * 32; key < step.end; key += 32) {
      const uint16_t* v = values + key * padded;
      _tile_loadd(4, weights + key, kAttentionKeys * 2);
      _tile_loadd(6, v, stride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, v + 32, stride);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kTiles == 4) {
        _tile_loadd(6, v + 64, stride);
        _tile_dpbf16ps(2, 4, 6);
        _tile_loadd(7, v + 96, stride);
        _tile_dpbf16ps(3, 4, 7);
      }
    }
    StoreTile<0>(sums, stride);
    StoreTile<1>(sums + 16, stride);
    if constexpr (kTiles == 4) {
      StoreTile<2>(sums + 32, stride);
      StoreTile<3>(sums + 48, stride);
    }
  }

  static void Weigh(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                    int64_t num_rows, const AttentionScratch& scratch) {
    PairValues(call, step, next, scratch);
    const int64_t padded = PadTo32(call.head_dim);
    const int32_t begin = step.begin / 32 * 32;
    const int32_t end = (step.end + 31) / 32 * 32;
    for (int64_t row = 0; row < num_rows; ++row) {
      float* weights = scratch.weights + row * kAttentionKeys;
      for (int32_t i = begin; i < step.begin / 16 * 16; i += 16) Store(weights + i, Zero());
      for (int32_t i = (step.end + 15) / 16 * 16; i < end; i += 16) Store(weights + i, Zero());
      PackRow16<Bf16Dots>(weights + begin, end - begin, end - begin,
                          scratch.weights16 + row * kAttentionKeys + begin);
      const Vec rescale = Set(scratch.rescale[row]);
      float* out = scratch.out + row * padded;
      for (int64_t i = 0; i < padded; i += 16) Store(out + i, Mul(Load(out + i), rescale));
    }
    FinishStores(scratch.out);
    for (int64_t row = 0; row < num_rows; row += kAmxRows) {
      const uint16_t* weights = scratch.weights16 + row * kAttentionKeys;
      float* out = scratch.out + row * padded;
      int64_t col = 0;
      for (; col + 64 <= padded; col += 64) {
        WeighTiles<4>(step, padded, weights, scratch.v + 2 * col, out + col);
      }
      if (col < padded) WeighTiles<2>(step, padded, weights, scratch.v + 2 * col, out + col);
    }
    FinishStores(scratch.out);
  }
};

struct AmxBf16Kv : Bf16Kv {};
struct AmxI8Kv : I8Kv {};
template <>
struct DotKernels<AmxBf16Kv> : AmxDots<AmxBf16Elements> {};
template <>
struct DotKernels<AmxI8Kv> : AmxDots<AmxI8Elements> {};
template <>
struct LargeGroup<Bf16Kv> {
  using Type = AmxBf16Kv;
};
template <>
struct LargeGroup<I8Kv> {
  using Type = AmxI8Kv;
};

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_AMX_ATTENTION_INL_H_
