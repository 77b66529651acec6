// The keys of an attention call, step by step: where they lie, their way into cache, and the scores
// of query rows against them. Included by isa_*.cc after gemm-inl.h and kv_rows-inl.h.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_KEYS_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_KEYS_INL_H_

namespace moelight {
namespace {

constexpr int64_t kKeyTiles = kAttentionKeys / kTileRows;
constexpr int64_t kCacheLineBytes = 64;

inline int64_t PadTo16(int64_t n) { return (n + 15) / 16 * 16; }

// Cut from the scratch of a call.
struct AttentionScratch {
  void* q;         // [rows, kPackedStride] Act, or [rows, padded head_dim] f32
  uint16_t* k;     // [kKeyTiles][words of a row][16][2]
  float* weights;  // [rows, kAttentionKeys]: scores, then softmax weights
  float* out;      // [rows, padded head_dim]: running sum of weighted values of the segment
  float* max;      // [rows] running maximum, of scores * log2(e)
  float* total;    // [rows] running sum of weights
  float* rescale;  // [rows] factor for what was summed before this step
  float* whole;    // [rows, PartialFloats()]: the segments before, merged
  int64_t bytes;
};

// A partial result: out, then maximum and total in a line of their own.
int64_t PartialFloats(int64_t head_dim) { return PadTo16(head_dim) + 16; }

inline AttentionScratch CutScratch(void* scratch, int64_t num_rows, int64_t head_dim) {
  char* base = static_cast<char*>(scratch);
  int64_t used = 0;
  const auto take = [&](int64_t bytes) {
    char* at = base + used;
    used += (bytes + 63) / 64 * 64;
    return static_cast<void*>(at);
  };
  constexpr int64_t kFloat = sizeof(float);
  constexpr int64_t kActRowBytes = kPackedStride * static_cast<int64_t>(sizeof(Act));
  const int64_t float_row_bytes = PadTo16(head_dim) * kFloat;
  AttentionScratch s;
  s.q = take(num_rows * (kActRowBytes > float_row_bytes ? kActRowBytes : float_row_bytes));
  s.k = static_cast<uint16_t*>(take(kAttentionKeys * head_dim * 2));
  s.weights = static_cast<float*>(take(num_rows * kAttentionKeys * kFloat));
  s.out = static_cast<float*>(take(num_rows * PadTo16(head_dim) * kFloat));
  s.max = static_cast<float*>(take(num_rows * kFloat));
  s.total = static_cast<float*>(take(num_rows * kFloat));
  s.rescale = static_cast<float*>(take(num_rows * kFloat));
  s.whole = static_cast<float*>(take(num_rows * PartialFloats(head_dim) * kFloat));
  s.bytes = used;
  return s;
}

int64_t AttentionScratchSize(int64_t num_rows, int64_t head_dim) {
  alignas(64) char origin[1];
  return CutScratch(origin, num_rows, head_dim).bytes;
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

inline void Prefetch(const char* line) { _mm_prefetch(line, _MM_HINT_T0); }

// K and V of all keys of a step, for a step that nothing computed before could prefetch.
template <typename Kv>
inline void PrefetchStep(const AttentionCall& call, const KeyStep& step) {
  const int64_t row_bytes = call.head_dim * static_cast<int64_t>(sizeof(typename Kv::Element));
  for (int32_t i = step.begin; i < step.end; ++i) {
    for (int64_t byte = 0; byte < row_bytes; byte += kCacheLineBytes) {
      Prefetch(step.keys[i] + byte);
      Prefetch(step.keys[i] + call.v_offset + byte);
    }
  }
}

// The step at `position`, of the positions below `position_end`.
template <typename Kv>
inline void FindStep(const AttentionCall& call, int32_t position, int32_t position_end,
                     KeyStep* step) {
  const int64_t row_bytes = call.head_dim * static_cast<int64_t>(sizeof(typename Kv::Element));
  step->start = position / kAttentionKeys * kAttentionKeys;
  step->begin = position - step->start;
  const int32_t left = position_end - step->start;
  step->end = left < kAttentionKeys ? left : kAttentionKeys;
  if (Kv::kScales) {
    for (int32_t i = 0; i < kAttentionKeys; ++i) step->k_scales[i] = step->v_scales[i] = 0;
  }
  int32_t i = step->begin;
  while (i < step->end) {
    const int32_t offset = (step->start + i) % call.page_tokens;
    const int64_t page = call.block_table[(step->start + i) / call.page_tokens];
    const char* const block = call.k + page * call.page_stride;
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

// Brings the lines at `byte` of the keys of one tile of `next`.
inline void PrefetchTile(const KeyStep& next, int64_t tile, int64_t byte) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < kTileRows; ++i) Prefetch(next.keys[tile * kTileRows + i] + byte);
}

// Transposes K of the step into lines of one word of 16 keys. Between the blocks of a tile it
// brings the same block of `next`: pages lie anywhere in memory and are short, so that no
// prefetcher of the hardware gets going in them, and bringing all of a step at once would leave the
// memory idle while it is computed on.
template <typename Kv>
inline void TransposeKeys(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                          const AttentionScratch& scratch) {
  const int64_t num_words = call.head_dim / Kv::kWordElements;
  const int64_t tile_begin = step.begin / kTileRows;
  const int64_t tile_end = (step.end + kTileRows - 1) / kTileRows;
  for (int64_t tile = 0; tile < kKeyTiles; ++tile) {
    const bool needed = tile >= tile_begin && tile < tile_end;
    uint16_t* out = scratch.k + tile * num_words * kPairElements;
    for (int64_t word = 0; word < num_words; word += 16) {
      PrefetchTile(next, tile, word * 4);
      if (!needed) continue;
      TransposeN(step.keys + tile * kTileRows, word * 4, Lanes(num_words, word),
                 out + word * kPairElements);
    }
  }
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
  const int64_t stride = PadTo16(call.head_dim);
  const float* q = static_cast<const float*>(scratch.q);
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint16_t* lines = scratch.k + tile * num_words * kPairElements;
    float* scores = scratch.weights + tile * kTileRows;
    int64_t row = 0;
    for (; row + kScoreRows <= num_rows; row += kScoreRows) {
      ScoreWords<Kv, kScoreRows>(q + row * stride, stride, lines, num_words,
                                 scores + row * kAttentionKeys);
    }
    for (; row < num_rows; ++row) {
      ScoreWords<Kv, 1>(q + row * stride, stride, lines, num_words, scores + row * kAttentionKeys);
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
    panel.a = static_cast<const Act*>(scratch.q);
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

// The queries of a call in the form that ScoreKeys() takes.
template <typename Kv>
inline void PackQueries(const AttentionCall& call, int64_t num_rows,
                        const AttentionScratch& scratch) {
  for (int64_t row = 0; row < num_rows; ++row) {
    const float* q =
        call.q + row / call.group_size * call.q_stride + row % call.group_size * call.head_dim;
    if constexpr (Kv::kPairs) {
      PackRow(q, call.head_dim, static_cast<Act*>(scratch.q) + row * kPackedStride);
    } else {
      float* to = static_cast<float*>(scratch.q) + row * PadTo16(call.head_dim);
      for (int64_t i = 0; i < call.head_dim; i += 16) {
        Store(to + i, LoadN(q + i, Lanes(call.head_dim, i)));
      }
    }
  }
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_KEYS_INL_H_
