// The keys of an attention call, step by step: where they lie, their way into cache, and the scores
// of query rows against them. Included by isa_*.cc after gemm-inl.h and kv_rows-inl.h.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_KEYS_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_KEYS_INL_H_

namespace moelight {
namespace {

constexpr int64_t kKeyTiles = kAttentionKeys / kTileRows;
constexpr int64_t kCacheLineBytes = 64;

inline int64_t PadTo32(int64_t n) { return (n + 31) / 32 * 32; }
// Rows are computed on by sixteens where there are tiles.
inline int64_t PadRows(int64_t num_rows) { return (num_rows + 15) / 16 * 16; }

// Kernels that take the place of those here and in attention-inl.h, for a format that the
// instruction set has dot products for: see attention_dots-inl.h.
template <typename Kv>
struct DotKernels {
  static constexpr bool kExists = false;
  static constexpr bool kInterleaved = false;
};

// The format under another name where more than kMaxPairGroup query heads share a key, if the
// instruction set has other kernels for those. The choice depends on the model alone, so that the
// order of additions does.
template <typename Kv>
struct LargeGroup {
  using Type = Kv;
};
constexpr int32_t kMaxPairGroup = 8;

// Cut from the scratch of a call. Those of dot products are named so. Sizes are for the rows of one
// head; those of the others lie behind in what HeadScratch() moves on, the rest they share.
struct AttentionScratch {
  char* q;               // [rows, kQueryRowBytes]: Act, f32 or 16-bit elements
  float* q_scales;       // [rows] dot products
  uint16_t* k;           // [kKeyTiles][words of a row][16][2]
  uint16_t* v;           // [kAttentionKeys / 2][padded head_dim][2] tiles
  float* weights;        // [rows, kAttentionKeys]: scores, then softmax weights
  uint16_t* weights16;   // [rows, kAttentionKeys] dot products
  float* weight_scales;  // [rows] dot products
  float* out;            // [rows, padded head_dim]: running sum of weighted values of the segment
  float* max;            // [rows] running maximum, of scores * log2(e)
  float* total;          // [rows] running sum of weights
  float* rescale;        // [rows] factor for what was summed before this step
  float* whole;          // [rows, PartialFloats()]: the segments before, merged
  int64_t bytes;
};

// Of a row of queries in any form.
constexpr int64_t kActRowBytes = kPackedStride * static_cast<int64_t>(sizeof(Act));
constexpr int64_t kFloatRowBytes = kMaxHeadDim * static_cast<int64_t>(sizeof(float));
constexpr int64_t kQueryRowBytes = kActRowBytes > kFloatRowBytes ? kActRowBytes : kFloatRowBytes;

// A partial result: out, then maximum and total in a line of their own.
int64_t PartialFloats(int64_t head_dim) { return PadTo32(head_dim) + 16; }

inline AttentionScratch CutScratch(void* scratch, int64_t num_heads, int64_t num_rows,
                                   int64_t head_dim) {
  char* base = static_cast<char*>(scratch);
  int64_t used = 0;
  const auto take = [&](int64_t bytes) {
    char* at = base + used;
    used += (bytes + 63) / 64 * 64;
    return static_cast<void*>(at);
  };
  const auto take_floats = [&](int64_t n) {
    return static_cast<float*>(take(n * static_cast<int64_t>(sizeof(float))));
  };
  num_rows = PadRows(num_rows);
  const int64_t all_rows = num_heads * num_rows;
  AttentionScratch s;
  s.q = static_cast<char*>(take(all_rows * kQueryRowBytes));
  s.q_scales = take_floats(all_rows);
  s.k = static_cast<uint16_t*>(take(kAttentionKeys * PadTo32(head_dim) * 2));
  s.v = static_cast<uint16_t*>(take(kAttentionKeys * PadTo32(head_dim) * 2));
  s.weights = take_floats(num_rows * kAttentionKeys);
  s.weights16 = static_cast<uint16_t*>(take(num_rows * kAttentionKeys * 2));
  s.weight_scales = take_floats(num_rows);
  s.out = take_floats(all_rows * PadTo32(head_dim));
  s.max = take_floats(all_rows);
  s.total = take_floats(all_rows);
  s.rescale = take_floats(num_rows);
  s.whole = take_floats(all_rows * PartialFloats(head_dim));
  s.bytes = used;
  return s;
}

inline AttentionScratch HeadScratch(AttentionScratch s, int64_t head, int64_t num_rows,
                                    int64_t head_dim) {
  const int64_t row = head * PadRows(num_rows);
  s.q += row * kQueryRowBytes;
  s.q_scales += row;
  s.out += row * PadTo32(head_dim);
  s.max += row;
  s.total += row;
  s.whole += row * PartialFloats(head_dim);
  return s;
}

int64_t AttentionScratchSize(int64_t num_heads, int64_t num_rows, int64_t head_dim) {
  alignas(64) char origin[1];
  return CutScratch(origin, num_heads, num_rows, head_dim).bytes;
}

// Keys [begin, end) of the step that starts at position `start`; both relative to it.
struct KeyStep {
  int32_t start, begin, end;
  // K of position start + i for i in [begin, end). All other entries repeat one of them: those that
  // share a tile are scored and dropped.
  const char* keys[kAttentionKeys];
  // kI8 only; zero outside [begin, end).
  float k_scales[kAttentionKeys];
  float v_scales[kAttentionKeys];
};

// Brings the lines of a row to L2: a step fills all of L1. In assembly, because GCC 12 deletes
// loops that do nothing but prefetch.
inline void PrefetchRow(const char* row, int64_t bytes) {
  for (int64_t byte = 0; byte < bytes; byte += kCacheLineBytes) {
    asm volatile("prefetcht1 %0" : : "m"(row[byte]));
  }
}

// K (offset 0) or V (v_offset) of the keys of a step, brought to cache a few at a time between the
// computations on the step before: all at once would leave the memory idle in between, and only
// ascending lines get help from the prefetchers of the hardware.
class KeyPrefetch {
 public:
  // Spread evenly over `num_calls` calls of Next().
  KeyPrefetch(const KeyStep& step, int64_t row_bytes, int64_t offset, int64_t num_calls)
      : keys_(step.keys), offset_(offset), row_bytes_(row_bytes), end_(step.end) {
    key_ = step.begin;
    due_ = int64_t{key_} << kFraction;
    per_call_ = ((int64_t{end_ - key_} << kFraction) + num_calls - 1) / num_calls;
  }
  void Next() {
    due_ += per_call_;
    for (; (int64_t{key_} << kFraction) < due_ && key_ < end_; ++key_) {
      PrefetchRow(keys_[key_] + offset_, row_bytes_);
    }
  }
  void Rest() {
    for (; key_ < end_; ++key_) PrefetchRow(keys_[key_] + offset_, row_bytes_);
  }

 private:
  static constexpr int kFraction = 16;  // bits of due_ and per_call_ below one key
  const char* const* keys_;
  int64_t offset_;
  int64_t row_bytes_;
  int64_t due_;
  int64_t per_call_;
  int32_t key_;
  int32_t end_;
};

template <typename Kv>
inline int64_t RowBytes(const AttentionCall& call) {
  return call.head_dim * static_cast<int64_t>(sizeof(typename Kv::Element));
}

// The step of a head at `position`.
template <typename Kv>
inline void FindStep(const AttentionCall& call, int32_t head, int32_t position, KeyStep* step) {
  const int64_t row_bytes = RowBytes<Kv>(call);
  const char* const first_block = call.k + head * call.head_stride;
  step->start = position / kAttentionKeys * kAttentionKeys;
  step->begin = position - step->start;
  const int32_t left = call.position_end - step->start;
  step->end = left < kAttentionKeys ? left : kAttentionKeys;
  if (Kv::kScales) {
    for (int32_t i = 0; i < kAttentionKeys; ++i) step->k_scales[i] = step->v_scales[i] = 0;
  }
  int32_t i = step->begin;
  while (i < step->end) {
    const int32_t offset = (step->start + i) % call.page_tokens;
    const int64_t page = call.block_table[(step->start + i) / call.page_tokens];
    const char* const block = first_block + page * call.page_stride;
    const char* key = block + offset * row_bytes;
    const float* scales = reinterpret_cast<const float*>(block + call.scale_offset) + offset;
    const int32_t in_page = call.page_tokens - offset;
    const int32_t num_keys = in_page < step->end - i ? in_page : step->end - i;
    if (Kv::kScales) {
      const float* const v_scales =
          reinterpret_cast<const float*>(reinterpret_cast<const char*>(scales) + call.v_offset);
      __builtin_memcpy(step->k_scales + i, scales, num_keys * sizeof(float));
      __builtin_memcpy(step->v_scales + i, v_scales, num_keys * sizeof(float));
    }
    for (int32_t n = 0; n < num_keys; ++n, ++i, key += row_bytes) step->keys[i] = key;
  }
  const char* any = step->keys[step->begin];
  for (i = 0; i < step->begin; ++i) step->keys[i] = any;
  for (i = step->end; i < kAttentionKeys; ++i) step->keys[i] = any;
}

// Transposes K of the step into lines of one word of 16 keys, and brings K of the next.
template <typename Kv>
inline void TransposeKeys(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                          const AttentionScratch& scratch) {
  const int64_t num_words = call.head_dim / Kv::kWordElements;
  const int64_t tile_begin = step.begin / kTileRows;
  const int64_t tile_end = (step.end + kTileRows - 1) / kTileRows;
  KeyPrefetch prefetch(next, RowBytes<Kv>(call), 0,
                       (tile_end - tile_begin) * ((num_words + 15) / 16));
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    uint16_t* out = scratch.k + tile * num_words * kPairElements;
    for (int64_t word = 0; word < num_words; word += 16) {
      prefetch.Next();
      TransposeN(step.keys + tile * kTileRows, word * 4, Lanes(num_words, word),
                 out + word * kPairElements);
    }
  }
  prefetch.Rest();
}

// Scores of kRows rows against a tile of transposed keys. The elements of a word have accumulators
// of their own, as many as there are registers for.
template <typename Kv, int kRows>
inline void ScoreWords(const float* q, int64_t q_stride, const uint16_t* line, int64_t num_words,
                       float* scores) {
  constexpr int kWord = Kv::kWordElements;
  constexpr int kChains = kWord < kScoreChains ? kWord : kScoreChains;
  Vec sum[kRows][kChains];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kChains; ++c) sum[r][c] = Zero();
  }
  for (int64_t word = 0; word < num_words; ++word, line += kPairElements, q += kWord) {
    Vec parts[kWord];
    Kv::Split(line, parts);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int e = 0; e < kWord; ++e) {
        sum[r][e % kChains] = Fma(Set(q[r * q_stride + e]), parts[e], sum[r][e % kChains]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    Vec score = sum[r][0];
    for (int c = 1; c < kChains; ++c) score = Add(score, sum[r][c]);
    Store(scores + r * kAttentionKeys, score);
  }
}

template <typename Kv>
inline void ScoreTiles(const AttentionCall& call, int64_t num_rows, int64_t tile_begin,
                       int64_t tile_end, const AttentionScratch& scratch) {
  const int64_t num_words = call.head_dim / Kv::kWordElements;
  constexpr int64_t kStride = kQueryRowBytes / static_cast<int64_t>(sizeof(float));
  const float* q = reinterpret_cast<const float*>(scratch.q);
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint16_t* lines = scratch.k + tile * num_words * kPairElements;
    float* scores = scratch.weights + tile * kTileRows;
    int64_t row = 0;
    for (; row + kScoreRows <= num_rows; row += kScoreRows) {
      ScoreWords<Kv, kScoreRows>(q + row * kStride, kStride, lines, num_words,
                                 scores + row * kAttentionKeys);
    }
    for (; row < num_rows; ++row) {
      ScoreWords<Kv, 1>(q + row * kStride, kStride, lines, num_words,
                        scores + row * kAttentionKeys);
    }
  }
}

// Scores of all rows against the keys of the step, to scratch.weights.
template <typename Kv>
inline void ScoreKeys(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                      int64_t num_rows, const AttentionScratch& scratch) {
  TransposeKeys<Kv>(call, step, next, scratch);
  const int64_t tile_begin = step.begin / kTileRows;
  const int64_t tile_end = (step.end + kTileRows - 1) / kTileRows;
  if constexpr (Kv::kPairs) {
    const int64_t tile_stride = call.head_dim / 2 * kPairElements;
    PanelCall panel;
    panel.a = reinterpret_cast<const Act*>(scratch.q);
    panel.num_rows = num_rows;
    panel.w = scratch.k + tile_begin * tile_stride;
    panel.tile_stride = tile_stride;
    panel.num_tiles = tile_end - tile_begin;
    panel.num_pairs = call.head_dim / 2;
    panel.y = scratch.weights + tile_begin * kTileRows;
    panel.y_stride = kAttentionKeys;
    Panel(panel);
  } else {
    ScoreTiles<Kv>(call, num_rows, tile_begin, tile_end, scratch);
  }
}

// A query row of a head.
inline const float* QueryRow(const AttentionCall& call, int64_t head, int64_t row) {
  return call.q + row / call.group_size * call.q_stride +
         (head * call.group_size + row % call.group_size) * call.head_dim;
}

// The queries of a head in the form that ScoreKeys() takes.
template <typename Kv>
inline void PackQueries(const AttentionCall& call, int64_t head, int64_t num_rows,
                        const AttentionScratch& scratch) {
  for (int64_t row = 0; row < num_rows; ++row) {
    const float* q = QueryRow(call, head, row);
    if constexpr (Kv::kPairs) {
      PackRow(q, call.head_dim, reinterpret_cast<Act*>(scratch.q) + row * kPackedStride);
    } else {
      float* to = reinterpret_cast<float*>(scratch.q + row * kQueryRowBytes);
      for (int64_t i = 0; i < call.head_dim; i += 16) {
        Store(to + i, LoadN(q + i, Lanes(call.head_dim, i)));
      }
    }
  }
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_KEYS_INL_H_
