// Attention of a block of query rows over the pages of one KV head. Included by isa_*.cc after
// gemm-inl.h and rows-inl.h.
//
// Keys are taken in steps of kAttentionKeys that begin at multiples of it, with the running maximum
// and sum of the online softmax (Milakov & Gimelshein 2018; Dao et al. 2022). K of a step is
// transposed once into the layout of bf16_tiled, so that scores are a small Panel() for all rows;
// V is used as it lies. A step that a row does not see leaves the row's state unchanged to the bit
// (factor 1, weights 0), so the result does not depend on how queries are grouped into calls.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_INL_H_

namespace moelight {
namespace {

constexpr int64_t kKeyTiles = kAttentionKeys / kTileRows;

// Cut from the scratch of a call.
struct AttentionScratch {
  Act* q;          // [rows, kPackedStride]
  uint16_t* k;     // [kKeyTiles][head_dim / 2][16][2]
  float* weights;  // [rows, kAttentionKeys]: scores, then softmax weights
  float* out;      // [rows, padded head_dim]: running sum of weighted values
  float* max;      // [rows] running maximum, of scores * log2(e)
  float* total;    // [rows] running sum of weights
  float* rescale;  // [rows] factor for what was summed before this step
  int64_t bytes;
};

inline int64_t PadTo16(int64_t n) { return (n + 15) / 16 * 16; }

inline AttentionScratch CutScratch(void* scratch, int64_t num_rows, int64_t head_dim) {
  char* base = static_cast<char*>(scratch);
  int64_t used = 0;
  const auto take = [&](int64_t bytes) {
    char* at = base + used;
    used += (bytes + 63) / 64 * 64;
    return static_cast<void*>(at);
  };
  constexpr int64_t kFloat = sizeof(float);
  AttentionScratch s;
  s.q = static_cast<Act*>(take(num_rows * kPackedStride * static_cast<int64_t>(sizeof(Act))));
  s.k = static_cast<uint16_t*>(take(kAttentionKeys * head_dim * 2));
  s.weights = static_cast<float*>(take(num_rows * kAttentionKeys * kFloat));
  s.out = static_cast<float*>(take(num_rows * PadTo16(head_dim) * kFloat));
  s.max = static_cast<float*>(take(num_rows * kFloat));
  s.total = static_cast<float*>(take(num_rows * kFloat));
  s.rescale = static_cast<float*>(take(num_rows * kFloat));
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
  // K of position start + i for i in [begin, end). The other entries of the tiles that these touch
  // repeat one of them: their scores are computed and dropped.
  const uint16_t* keys[kAttentionKeys];
};

// Brings K and V of `num_keys` consecutive positions of one page.
inline void PrefetchKeys(const AttentionCall& call, const uint16_t* keys, int64_t num_keys) {
  constexpr int64_t kLineElements = 32;
  const int64_t num_elements = num_keys * call.head_dim;
  for (int64_t i = 0; i < num_elements; i += kLineElements) {
    _mm_prefetch(reinterpret_cast<const char*>(keys + i), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(keys + call.v_offset + i), _MM_HINT_T0);
  }
}

// The step at `position`, of the positions below `position_end`. Pages lie anywhere in memory and
// are short, so nothing but these prefetches brings them in time.
inline void FindStep(const AttentionCall& call, int32_t position, int32_t position_end,
                     KeyStep* step) {
  step->start = position / kAttentionKeys * kAttentionKeys;
  step->begin = position - step->start;
  const int32_t left = position_end - step->start;
  step->end = left < kAttentionKeys ? left : kAttentionKeys;
  int32_t i = step->begin;
  while (i < step->end) {
    const int32_t offset = (step->start + i) % call.page_tokens;
    const int64_t page = call.block_table[(step->start + i) / call.page_tokens];
    const uint16_t* key = call.k + page * call.page_stride + int64_t{offset} * call.head_dim;
    const int32_t in_page = call.page_tokens - offset;
    const int32_t num_keys = in_page < step->end - i ? in_page : step->end - i;
    PrefetchKeys(call, key, num_keys);
    for (int32_t n = 0; n < num_keys; ++n, ++i, key += call.head_dim) step->keys[i] = key;
  }
  const uint16_t* any = step->keys[step->begin];
  for (i = step->begin / 16 * 16; i < step->begin; ++i) step->keys[i] = any;
  for (i = step->end; i % 16 != 0; ++i) step->keys[i] = any;
}

inline void ScoreKeys(const AttentionCall& call, const KeyStep& step, int64_t num_rows,
                      const AttentionScratch& scratch) {
  const int64_t num_pairs = call.head_dim / 2;
  const int64_t tile_stride = num_pairs * kPairElements;
  const int64_t tile_begin = step.begin / kTileRows;
  const int64_t tile_end = (step.end + kTileRows - 1) / kTileRows;
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    uint16_t* out = scratch.k + tile * tile_stride;
    for (int64_t pair = 0; pair < num_pairs; pair += 16) {
      TransposeN(step.keys + tile * kTileRows, 2 * pair, Lanes(num_pairs, pair),
                 out + pair * kPairElements);
    }
  }
  PanelCall panel;
  panel.a = scratch.q;
  panel.num_rows = num_rows;
  panel.w = scratch.k + tile_begin * tile_stride;
  panel.tile_stride = tile_stride;
  panel.num_tiles = tile_end - tile_begin;
  panel.num_pairs = num_pairs;
  panel.y = scratch.weights + tile_begin * kTileRows;
  panel.y_stride = kAttentionKeys;
  Panel(panel);
}

// Turns the scores of one row into weights. The row sees [visible_begin, visible_end) of the step.
inline void SoftmaxStep(const AttentionCall& call, const KeyStep& step, int32_t visible_begin,
                        int32_t visible_end, int64_t row, const AttentionScratch& scratch) {
  float* weights = scratch.weights + row * kAttentionKeys;
  const int32_t tile_begin = step.begin / 16 * 16;
  if (visible_begin >= visible_end) {
    for (int32_t i = tile_begin; i < step.end; i += 16) Store(weights + i, Zero());
    scratch.rescale[row] = 1.0f;
    return;
  }
  const Vec lowest = Set(-__builtin_inff());
  const Vec scale = Set(call.scale * kLog2E);
  const float old_max = scratch.max[row];
  Vec largest = Set(old_max);
  for (int32_t i = tile_begin; i < step.end; i += 16) {
    const Vec score =
        KeepRange(Mul(Load(weights + i), scale), visible_begin - i, visible_end - i, lowest);
    largest = Max(largest, score);
    Store(weights + i, score);
  }
  const Vec max = Set(MaxOf(largest));
  const Vec rescale = Exp2(Sub(Set(old_max), max));
  Vec sum = Zero();
  for (int32_t i = tile_begin; i < step.end; i += 16) {
    const Vec weight = Exp2(Sub(Load(weights + i), max));
    sum = Add(sum, weight);
    Store(weights + i, weight);
  }
  StoreN(scratch.max + row, max, 1);
  StoreN(scratch.rescale + row, rescale, 1);
  StoreN(scratch.total + row, Fma(Set(scratch.total[row]), rescale, Set(Sum(sum))), 1);
}

// out[r, :] = out[r, :] * rescale[r] + sum over i in [begin, end) of weights[r, i] * V[i, :] for
// kRows rows and the kVecs * 16 columns at `col`; with kTail only `lanes` of them exist in V.
template <int kRows, int kVecs, bool kTail>
inline void WeighValues(const AttentionCall& call, const KeyStep& step, int64_t row, int64_t col,
                        const AttentionScratch& scratch) {
  const int64_t out_stride = PadTo16(call.head_dim);
  float* out = scratch.out + row * out_stride + col;
  const float* weights = scratch.weights + row * kAttentionKeys;
  Vec sum[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    const Vec rescale = Set(scratch.rescale[row + r]);
    for (int v = 0; v < kVecs; ++v) sum[r][v] = Mul(Load(out + r * out_stride + v * 16), rescale);
  }
  for (int32_t i = step.begin; i < step.end; ++i) {
    const uint16_t* value = step.keys[i] + call.v_offset + col;
    Vec values[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      values[v] = kTail ? LoadBf16N(value, call.head_dim - col) : LoadBf16(value + v * 16);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vec weight = Set(weights[r * kAttentionKeys + i]);
      for (int v = 0; v < kVecs; ++v) sum[r][v] = Fma(weight, values[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) Store(out + r * out_stride + v * 16, sum[r][v]);
  }
}

// All columns for kRows rows.
template <int kRows>
inline void WeighRows(const AttentionCall& call, const KeyStep& step, int64_t row,
                      const AttentionScratch& scratch) {
  int64_t col = 0;
  for (; col + 16 * kValueVecs <= call.head_dim; col += 16 * kValueVecs) {
    WeighValues<kRows, kValueVecs, false>(call, step, row, col, scratch);
  }
  if constexpr (kValueVecs > 2) {
    for (; col + 32 <= call.head_dim; col += 32) {
      WeighValues<kRows, 2, false>(call, step, row, col, scratch);
    }
  }
  for (; col + 16 <= call.head_dim; col += 16) {
    WeighValues<kRows, 1, false>(call, step, row, col, scratch);
  }
  if (col < call.head_dim) WeighValues<kRows, 1, true>(call, step, row, col, scratch);
}

inline void AttentionStep(const AttentionCall& call, const KeyStep& step, int64_t num_rows,
                          const AttentionScratch& scratch) {
  ScoreKeys(call, step, num_rows, scratch);
  for (int64_t row = 0; row < num_rows; ++row) {
    const int32_t end =
        call.first_position + static_cast<int32_t>(row / call.group_size) + 1 - step.start;
    int32_t begin = step.begin;
    if (call.sliding_window > 0 && end - call.sliding_window > begin) {
      begin = end - call.sliding_window;
    }
    SoftmaxStep(call, step, begin, end < step.end ? end : step.end, row, scratch);
  }
  int64_t row = 0;
  for (; row + kValueRows <= num_rows; row += kValueRows) {
    WeighRows<kValueRows>(call, step, row, scratch);
  }
  for (; row + 2 <= num_rows; row += 2) WeighRows<2>(call, step, row, scratch);
  for (; row < num_rows; ++row) WeighRows<1>(call, step, row, scratch);
}

inline float* OutRow(const AttentionCall& call, int64_t row) {
  return call.out + row / call.group_size * call.out_stride + row % call.group_size * call.head_dim;
}

// Packs the queries and empties the sums.
inline void PrepareRows(const AttentionCall& call, int64_t num_rows,
                        const AttentionScratch& scratch) {
  const int64_t out_stride = PadTo16(call.head_dim);
  for (int64_t row = 0; row < num_rows; ++row) {
    const float* q =
        call.q + row / call.group_size * call.q_stride + row % call.group_size * call.head_dim;
    PackRow(q, call.head_dim, scratch.q + row * kPackedStride);
    for (int64_t i = 0; i < out_stride; i += 16) Store(scratch.out + row * out_stride + i, Zero());
    scratch.max[row] = -__builtin_inff();
    scratch.total[row] = 0;
  }
}

// The first step that any row of a call sees. Positions before it may lie in pages that are no
// longer the sequence's own.
inline void FindFirstStep(const AttentionCall& call, KeyStep* step) {
  int32_t position = 0;
  if (call.sliding_window > 0 && call.first_position + 1 > call.sliding_window) {
    position = call.first_position + 1 - call.sliding_window;
  }
  FindStep(call, position, call.first_position + call.num_tokens, step);
}

void Attention(const AttentionCall& call) {
  const int64_t num_rows = int64_t{call.num_tokens} * call.group_size;
  const int64_t out_stride = PadTo16(call.head_dim);
  const AttentionScratch scratch = CutScratch(call.scratch, num_rows, call.head_dim);
  const int32_t position_end = call.first_position + call.num_tokens;
  KeyStep steps[2];
  KeyStep* step = &steps[0];
  KeyStep* next = &steps[1];
  FindFirstStep(call, step);
  PrepareRows(call, num_rows, scratch);
  for (;;) {
    const int32_t next_position = step->start + step->end;
    if (next_position < position_end) {
      FindStep(call, next_position, position_end, next);
    } else if (call.next != nullptr) {
      FindFirstStep(*call.next, next);  // for its prefetches
    }
    AttentionStep(call, *step, num_rows, scratch);
    if (next_position >= position_end) break;
    KeyStep* const done = step;
    step = next;
    next = done;
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    const Vec inverse = Div(Set(1.0f), Set(scratch.total[row]));
    float* out = OutRow(call, row);
    for (int64_t i = 0; i < call.head_dim; i += 16) {
      StoreN(out + i, Mul(Load(scratch.out + row * out_stride + i), inverse),
             Lanes(call.head_dim, i));
    }
  }
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_INL_H_
