// Scores and weighted values of attention with dot products of 16-bit pairs: bf16 (AVX512-BF16)
// and, for int8 keys and values, whole numbers (AVX512-VNNI). Included by isa files that have both,
// after attention_keys-inl.h; attention-inl.h takes these kernels where they exist.
//
// K is used as it lies: the lanes of a register are elements of one key, and the registers of 16
// keys are added across by a tree of shuffles. That costs 3 instructions per key and row; to
// transpose K first would cost 24 per key, more for the up to 8 query heads that share a key when a
// sequence decodes. V is taken two keys at a time, interleaved, so that a pair of lanes is one
// element of both; weights are rounded to 16 bits for it.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_DOTS_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_DOTS_INL_H_

namespace moelight {
namespace {

constexpr int64_t kDotElements = 32;  // 16-bit elements of a register

inline __mmask32 First32(int64_t n) {
  if (n >= kDotElements) return ~__mmask32{0};
  return n <= 0 ? __mmask32{0} : static_cast<__mmask32>((uint32_t{1} << n) - 1);
}

// What the two formats differ in. Q and weights are bf16, or whole numbers of 16 bits with a scale
// per row.
struct Bf16Dots {
  using Element = uint16_t;
  using Acc = __m512;
  static __m512i LoadElements(const char* p, __mmask32 mask) {
    return _mm512_maskz_loadu_epi16(mask, p);
  }
  static __m512i LoadElements(const char* p) { return _mm512_loadu_si512(p); }
  static Acc ZeroAcc() { return _mm512_setzero_ps(); }
  static Acc Dot(Acc acc, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static Acc AddAcc(Acc a, Acc b) { return _mm512_add_ps(a, b); }
  static __m512 Bits(Acc a) { return a; }
  static Acc FromBits(__m512 a) { return a; }
  static Vec Scores(Acc acc, float) { return acc; }
  // The sum so far takes part in the products.
  static Acc Begin(const float* out, Vec rescale) { return Mul(Load(out), rescale); }
  static Vec End(Acc acc, const float*, Vec, Vec) { return acc; }
  // Packs up to 16 floats; the scale is not used.
  static void Pack(Vec v, float, uint16_t* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
  }
  static constexpr bool kScales = false;
};

struct I8Dots {
  using Element = int8_t;
  using Acc = __m512i;
  static __m512i LoadElements(const char* p, __mmask32 mask) {
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, p));
  }
  static __m512i LoadElements(const char* p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Acc ZeroAcc() { return _mm512_setzero_si512(); }
  // Whole sums of up to kMaxHeadDim products of 127 * 32767 stay below 2^31.
  static Acc Dot(Acc acc, __m512i a, __m512i b) { return _mm512_dpwssd_epi32(acc, a, b); }
  static Acc AddAcc(Acc a, Acc b) { return _mm512_add_epi32(a, b); }
  static __m512 Bits(Acc a) { return _mm512_castsi512_ps(a); }
  static Acc FromBits(__m512 a) { return _mm512_castps_si512(a); }
  static Vec Scores(Acc acc, float scale) { return Mul(_mm512_cvtepi32_ps(acc), Set(scale)); }
  static Acc Begin(const float*, Vec) { return ZeroAcc(); }
  static Vec End(Acc acc, const float* out, Vec rescale, Vec scale) {
    return Fma(_mm512_cvtepi32_ps(acc), scale, Mul(Load(out), rescale));
  }
  static void Pack(Vec v, float inverse_scale, uint16_t* to) {
    const __m512i whole = _mm512_cvtps_epi32(Mul(v, Set(inverse_scale)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtsepi32_epi16(whole));
  }
  static constexpr bool kScales = true;
};

// Packs `n` floats to 16 bits, padded with zeros to `padded`. Returns their scale.
template <typename Dots>
inline float PackRow16(const float* x, int64_t n, int64_t padded, uint16_t* to) {
  constexpr float kMaxInt16 = 32767;
  const float largest = Dots::kScales ? LargestOf(x, n) : 0.0f;
  const float inverse = largest > 0 ? kMaxInt16 / largest : 0.0f;
  for (int64_t i = 0; i < padded; i += 16) {
    const int64_t lanes = n - i < 0 ? 0 : Lanes(n, i);
    Dots::Pack(LoadN(x + i, lanes), inverse, to + i);
  }
  return largest / kMaxInt16;
}

// 32 columns of a row out of the two accumulators that the interleaving filled: lane by lane of
// 128 bits, four columns are of the first and four of the second.
inline void SortPairColumns(Vec* first, Vec* second) {
  const __m512i from_first =
      _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i from_second =
      _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const Vec low = *first;
  const Vec high = *second;
  *first = _mm512_permutex2var_ps(low, from_first, high);
  *second = _mm512_permutex2var_ps(low, from_second, high);
}

// Adds the lanes of accumulators: two of 16 / 2^(level - 1) lanes a key become one of half as many
// for each of their keys.
template <typename Dots, int kLevel>
inline typename Dots::Acc AddAcross(typename Dots::Acc a, typename Dots::Acc b) {
  const __m512 x = Dots::Bits(a);
  const __m512 y = Dots::Bits(b);
  __m512 low, high;
  if constexpr (kLevel == 1) {
    low = _mm512_shuffle_f32x4(x, y, 0x44);
    high = _mm512_shuffle_f32x4(x, y, 0xee);
  } else if constexpr (kLevel == 2) {
    low = _mm512_shuffle_f32x4(x, y, 0x88);
    high = _mm512_shuffle_f32x4(x, y, 0xdd);
  } else if constexpr (kLevel == 3) {
    low = _mm512_shuffle_ps(x, y, 0x44);
    high = _mm512_shuffle_ps(x, y, 0xee);
  } else {
    low = _mm512_shuffle_ps(x, y, 0x88);
    high = _mm512_shuffle_ps(x, y, 0xdd);
  }
  return Dots::AddAcc(Dots::FromBits(low), Dots::FromBits(high));
}

template <typename Dots, int kRows>
struct RowAccs {
  typename Dots::Acc row[kRows];
};

// The keys of a tile and the rows they are scored against.
template <int kVecs>
struct ScoreTile {
  const char* const* keys;
  const uint16_t* q;  // [rows][q_stride], padded with zeros
  int64_t q_stride;
  // Of the upper half of the registers: a row may end in any of them.
  __mmask32 masks[kVecs - kVecs / 2];
};

template <typename Dots, int kVecs, int kRows>
[[gnu::always_inline]] inline RowAccs<Dots, kRows> ScoreKey(const ScoreTile<kVecs>& tile, int key,
                                                            KeyPrefetch& prefetch) {
  constexpr int64_t kBytes = kDotElements * static_cast<int64_t>(sizeof(typename Dots::Element));
  RowAccs<Dots, kRows> acc;
  for (int r = 0; r < kRows; ++r) acc.row[r] = Dots::ZeroAcc();
#pragma GCC unroll 16
  for (int v = 0; v < kVecs; ++v) {
    const char* at = tile.keys[key] + v * kBytes;
    const __m512i elements =
        v < kVecs / 2 ? Dots::LoadElements(at) : Dots::LoadElements(at, tile.masks[v - kVecs / 2]);
    for (int r = 0; r < kRows; ++r) {
      const __m512i q = _mm512_loadu_si512(tile.q + r * tile.q_stride + v * kDotElements);
      acc.row[r] = Dots::Dot(acc.row[r], elements, q);
    }
  }
  prefetch.Next();
  return acc;
}

// Of the 2^kLevel keys from `first` on. The tree leaves key 4 * j + i in lane 4 * i + j.
template <typename Dots, int kVecs, int kRows, int kLevel>
[[gnu::always_inline]] inline RowAccs<Dots, kRows> ScoreLeaves(const ScoreTile<kVecs>& tile,
                                                               int first, KeyPrefetch& prefetch) {
  if constexpr (kLevel == 0) {
    return ScoreKey<Dots, kVecs, kRows>(tile, first, prefetch);
  } else {
    const auto a = ScoreLeaves<Dots, kVecs, kRows, kLevel - 1>(tile, first, prefetch);
    const auto b =
        ScoreLeaves<Dots, kVecs, kRows, kLevel - 1>(tile, first + (1 << (kLevel - 1)), prefetch);
    RowAccs<Dots, kRows> sum;
    for (int r = 0; r < kRows; ++r) sum.row[r] = AddAcross<Dots, kLevel>(a.row[r], b.row[r]);
    return sum;
  }
}

// Kernels of one format, as attention-inl.h calls them.
template <typename Dots>
struct PairDots {
  static constexpr bool kExists = true;
  static void Begin() {}
  static void End() {}
  // Accumulators of V are in the order that the interleaving leaves: FinishRow() sorts.
  static constexpr bool kInterleaved = true;

  static constexpr int64_t kQueryStride = kQueryRowBytes / static_cast<int64_t>(sizeof(uint16_t));
  static_assert(kQueryStride >= kMaxHeadDim);

  static void PackQueries(const AttentionCall& call, int64_t head, int64_t num_rows,
                          const AttentionScratch& scratch) {
    for (int64_t row = 0; row < num_rows; ++row) {
      scratch.q_scales[row] =
          PackRow16<Dots>(QueryRow(call, head, row), call.head_dim, kMaxHeadDim,
                          reinterpret_cast<uint16_t*>(scratch.q) + row * kQueryStride);
    }
  }

  template <int kVecs, int kRows>
  static void ScoreRows(const ScoreTile<kVecs>& tile, const float* q_scales, float* scores,
                        KeyPrefetch& prefetch) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    KeyPrefetch local = prefetch;  // in registers
    const auto sums = ScoreLeaves<Dots, kVecs, kRows, 4>(tile, 0, local);
    prefetch = local;
    for (int r = 0; r < kRows; ++r) {
      const Vec in_order = _mm512_permutexvar_ps(order, Dots::Scores(sums.row[r], q_scales[r]));
      Store(scores + r * kAttentionKeys, in_order);
    }
  }

  template <int kVecs>
  static void ScoreStep(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                        int64_t num_rows, const AttentionScratch& scratch) {
    ScoreTile<kVecs> tile;
    tile.q_stride = kQueryStride;
    for (int v = kVecs / 2; v < kVecs; ++v) {
      tile.masks[v - kVecs / 2] = First32(call.head_dim - v * kDotElements);
    }
    const int64_t tile_begin = step.begin / kTileRows;
    const int64_t tile_end = (step.end + kTileRows - 1) / kTileRows;
    KeyPrefetch prefetch(next, RowBytes<Dots>(call), 0,
                         (tile_end - tile_begin) * kTileRows * ((num_rows + 1) / 2));
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      tile.keys = step.keys + t * kTileRows;
      float* scores = scratch.weights + t * kTileRows;
      int64_t row = 0;
      for (; row + 2 <= num_rows; row += 2) {
        tile.q = reinterpret_cast<const uint16_t*>(scratch.q) + row * kQueryStride;
        ScoreRows<kVecs, 2>(tile, scratch.q_scales + row, scores + row * kAttentionKeys, prefetch);
      }
      if (row < num_rows) {
        tile.q = reinterpret_cast<const uint16_t*>(scratch.q) + row * kQueryStride;
        ScoreRows<kVecs, 1>(tile, scratch.q_scales + row, scores + row * kAttentionKeys, prefetch);
      }
    }
    prefetch.Rest();
  }

  static void Score(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                    int64_t num_rows, const AttentionScratch& scratch) {
    static_assert(kMaxHeadDim <= 12 * kDotElements);
    const int64_t vecs = PadTo32(call.head_dim) / kDotElements;
    if (vecs <= 1) return ScoreStep<1>(call, step, next, num_rows, scratch);
    if (vecs <= 2) return ScoreStep<2>(call, step, next, num_rows, scratch);
    if (vecs <= 3) return ScoreStep<3>(call, step, next, num_rows, scratch);
    if (vecs <= 4) return ScoreStep<4>(call, step, next, num_rows, scratch);
    if (vecs <= 6) return ScoreStep<6>(call, step, next, num_rows, scratch);
    if (vecs <= 8) return ScoreStep<8>(call, step, next, num_rows, scratch);
    return ScoreStep<12>(call, step, next, num_rows, scratch);
  }

  // out[r, :] = out[r, :] * rescale[r] + sum over the step of weights[r, i] * V[i, :], for kRows
  // rows and the kVecs * 32 columns at `col`; with kTail V has only some of them.
  template <int kRows, int kVecs, bool kTail>
  static void WeighColumns(const AttentionCall& call, const KeyStep& step, KeyPrefetch& prefetch,
                           int64_t row, int64_t col, const AttentionScratch& scratch) {
    constexpr int64_t kElementSize = sizeof(typename Dots::Element);
    const int64_t offset = call.v_offset + col * kElementSize;
    const int64_t out_stride = PadTo32(call.head_dim);
    const __mmask32 mask = First32(call.head_dim - col);
    float* out = scratch.out + row * out_stride + col;
    const uint16_t* weights = scratch.weights16 + row * kAttentionKeys;
    typename Dots::Acc sum[kRows][2 * kVecs];
    for (int r = 0; r < kRows; ++r) {
      const Vec rescale = Set(scratch.rescale[row + r]);
      for (int v = 0; v < 2 * kVecs; ++v) {
        sum[r][v] = Dots::Begin(out + r * out_stride + v * 16, rescale);
      }
    }
    KeyPrefetch local = prefetch;  // in registers
    // Both keys of a pair exist: what lies outside the step repeats another, with a weight of zero.
    for (int32_t i = step.begin / 2 * 2; i < step.end; i += 2) {
      const char* a = step.keys[i] + offset;
      const char* b = step.keys[i + 1] + offset;
      local.Next();
      __m512i pairs[2 * kVecs];
      for (int v = 0; v < kVecs; ++v) {
        const int64_t at = v * kDotElements * kElementSize;
        const __m512i x = kTail ? Dots::LoadElements(a + at, mask) : Dots::LoadElements(a + at);
        const __m512i y = kTail ? Dots::LoadElements(b + at, mask) : Dots::LoadElements(b + at);
        pairs[2 * v] = _mm512_unpacklo_epi16(x, y);
        pairs[2 * v + 1] = _mm512_unpackhi_epi16(x, y);
      }
      for (int r = 0; r < kRows; ++r) {
        int32_t pair;
        __builtin_memcpy(&pair, weights + r * kAttentionKeys + i, sizeof(pair));
        const __m512i weight = _mm512_set1_epi32(pair);
        for (int v = 0; v < 2 * kVecs; ++v) sum[r][v] = Dots::Dot(sum[r][v], pairs[v], weight);
      }
    }
    prefetch = local;
    for (int r = 0; r < kRows; ++r) {
      const Vec rescale = Set(scratch.rescale[row + r]);
      const Vec scale = Set(scratch.weight_scales[row + r]);
      for (int v = 0; v < 2 * kVecs; ++v) {
        float* at = out + r * out_stride + v * 16;
        Store(at, Dots::End(sum[r][v], at, rescale, scale));
      }
    }
  }

  template <int kRows>
  static void WeighRows(const AttentionCall& call, const KeyStep& step, KeyPrefetch& prefetch,
                        int64_t row, const AttentionScratch& scratch) {
    int64_t col = 0;
    for (; col + 2 * kDotElements <= call.head_dim; col += 2 * kDotElements) {
      WeighColumns<kRows, 2, false>(call, step, prefetch, row, col, scratch);
    }
    for (; col + kDotElements <= call.head_dim; col += kDotElements) {
      WeighColumns<kRows, 1, false>(call, step, prefetch, row, col, scratch);
    }
    if (col < call.head_dim) WeighColumns<kRows, 1, true>(call, step, prefetch, row, col, scratch);
  }

  static void SortColumns(Vec* first, Vec* second) { SortPairColumns(first, second); }

  static void Weigh(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                    int64_t num_rows, const AttentionScratch& scratch) {
    for (int64_t row = 0; row < num_rows; ++row) {
      const int32_t begin = step.begin / 16 * 16;
      const int32_t end = (step.end + 15) / 16 * 16;
      scratch.weight_scales[row] =
          PackRow16<Dots>(scratch.weights + row * kAttentionKeys + begin, end - begin, end - begin,
                          scratch.weights16 + row * kAttentionKeys + begin);
    }
    const int64_t num_passes = ((num_rows + 3) / 4) * ((call.head_dim + 63) / 64);
    KeyPrefetch prefetch(next, RowBytes<Dots>(call), call.v_offset,
                         num_passes * (step.end - step.begin + 1) / 2);
    int64_t row = 0;
    for (; row + 4 <= num_rows; row += 4) WeighRows<4>(call, step, prefetch, row, scratch);
    for (; row + 2 <= num_rows; row += 2) WeighRows<2>(call, step, prefetch, row, scratch);
    if (row < num_rows) WeighRows<1>(call, step, prefetch, row, scratch);
    prefetch.Rest();
  }
};

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_DOTS_INL_H_
