// Attention of a block of query rows over the pages of one KV head. Included by isa_*.cc after
// attention_keys-inl.h.
//
// Keys are taken in steps of kAttentionKeys that begin at multiples of it, with the running maximum
// and sum of the online softmax (Milakov & Gimelshein 2018; Dao et al. 2022). K of a step is
// transposed once into lines of 16 keys, so that scores are a small matrix product for all rows; V
// is used as it lies. After every kSegmentKeys the sums start anew and are merged with those before
// (Dao et al. 2023, section 3.1, "split-K"). A step or segment that a row does not see leaves the
// row's state unchanged to the bit, and segments are merged in ascending order whoever computed
// them, so the result depends neither on how queries are grouped into calls nor on how positions
// are split over calls.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_INL_H_

namespace moelight {
namespace {

// cap * tanh(x / cap), with tanh(y) = 1 - 2 / (e^(2 y) + 1).
inline Vec SoftCap(Vec x, float cap) {
  const Vec e = Exp2(Mul(x, Set(2 * kLog2E / cap)));
  return Mul(Set(cap), Sub(Set(1.0f), Div(Set(2.0f), Add(e, Set(1.0f)))));
}

// Turns the scores of one row into weights. The row sees [visible_begin, visible_end) of the step.
template <typename Kv>
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
  const Vec scale = Set(call.soft_cap > 0 ? call.scale : call.scale * kLog2E);
  const float old_max = scratch.max[row];
  Vec largest = Set(old_max);
  for (int32_t i = tile_begin; i < step.end; i += 16) {
    Vec score = Mul(Load(weights + i), scale);
    if (Kv::kScales) score = Mul(score, Load(step.k_scales + i));
    if (call.soft_cap > 0) score = Mul(SoftCap(score, call.soft_cap), Set(kLog2E));
    score = KeepRange(score, visible_begin - i, visible_end - i, lowest);
    largest = Max(largest, score);
    Store(weights + i, score);
  }
  const Vec max = Set(MaxOf(largest));
  const Vec rescale = Exp2(Sub(Set(old_max), max));
  Vec sum = Zero();
  for (int32_t i = tile_begin; i < step.end; i += 16) {
    const Vec weight = Exp2(Sub(Load(weights + i), max));
    sum = Add(sum, weight);
    Store(weights + i, Kv::kScales ? Mul(weight, Load(step.v_scales + i)) : weight);
  }
  StoreN(scratch.max + row, max, 1);
  StoreN(scratch.rescale + row, rescale, 1);
  StoreN(scratch.total + row, Fma(Set(scratch.total[row]), rescale, Set(Sum(sum))), 1);
}

// out[r, :] = out[r, :] * rescale[r] + sum over i in [begin, end) of weights[r, i] * V[i, :] for
// kRows rows and the kVecs * 16 columns at `col`; with kTail only some of them exist in V.
template <typename Kv, int kRows, int kVecs, bool kTail>
inline void WeighValues(const AttentionCall& call, const KeyStep& step, KeyPrefetch& prefetch,
                        int64_t row, int64_t col, const AttentionScratch& scratch) {
  using Element = typename Kv::Element;
  const int64_t out_stride = PadTo32(call.head_dim);
  const int64_t offset = call.v_offset + col * static_cast<int64_t>(sizeof(Element));
  float* out = scratch.out + row * out_stride + col;
  const float* weights = scratch.weights + row * kAttentionKeys;
  Vec sum[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    const Vec rescale = Set(scratch.rescale[row + r]);
    for (int v = 0; v < kVecs; ++v) sum[r][v] = Mul(Load(out + r * out_stride + v * 16), rescale);
  }
  for (int32_t i = step.begin; i < step.end; ++i) {
    const Element* value = reinterpret_cast<const Element*>(step.keys[i] + offset);
    prefetch.Next();
    Vec values[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      values[v] = kTail ? Kv::LoadN(value, call.head_dim - col) : Kv::Load(value + v * 16);
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
template <typename Kv, int kRows>
inline void WeighRows(const AttentionCall& call, const KeyStep& step, KeyPrefetch& prefetch,
                      int64_t row, const AttentionScratch& scratch) {
  int64_t col = 0;
  for (; col + 16 * kValueVecs <= call.head_dim; col += 16 * kValueVecs) {
    WeighValues<Kv, kRows, kValueVecs, false>(call, step, prefetch, row, col, scratch);
  }
  if constexpr (kValueVecs > 2) {
    for (; col + 32 <= call.head_dim; col += 32) {
      WeighValues<Kv, kRows, 2, false>(call, step, prefetch, row, col, scratch);
    }
  }
  for (; col + 16 <= call.head_dim; col += 16) {
    WeighValues<Kv, kRows, 1, false>(call, step, prefetch, row, col, scratch);
  }
  if (col < call.head_dim) {
    WeighValues<Kv, kRows, 1, true>(call, step, prefetch, row, col, scratch);
  }
}

// Adds the weighted values of the step to the sums of all rows.
template <typename Kv>
inline void WeighStep(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                      int64_t num_rows, const AttentionScratch& scratch) {
  const int64_t num_passes = ((num_rows + kValueRows - 1) / kValueRows) *
                             ((call.head_dim + 16 * kValueVecs - 1) / (16 * kValueVecs));
  KeyPrefetch prefetch(next, RowBytes<Kv>(call), call.v_offset,
                       num_passes * (step.end - step.begin));
  int64_t row = 0;
  for (; row + kValueRows <= num_rows; row += kValueRows) {
    WeighRows<Kv, kValueRows>(call, step, prefetch, row, scratch);
  }
  for (; row + 2 <= num_rows; row += 2) WeighRows<Kv, 2>(call, step, prefetch, row, scratch);
  for (; row < num_rows; ++row) WeighRows<Kv, 1>(call, step, prefetch, row, scratch);
  prefetch.Rest();
}

template <typename Kv>
inline void AttentionStep(const AttentionCall& call, const KeyStep& step, const KeyStep& next,
                          int64_t num_rows, const AttentionScratch& scratch) {
  using Dots = DotKernels<Kv>;
  if constexpr (Dots::kExists) {
    Dots::Score(call, step, next, num_rows, scratch);
  } else {
    ScoreKeys<Kv>(call, step, next, num_rows, scratch);
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    const int32_t end =
        call.first_position + static_cast<int32_t>(row / call.group_size) + 1 - step.start;
    int32_t begin = step.begin;
    if (call.sliding_window > 0 && end - call.sliding_window > begin) {
      begin = end - call.sliding_window;
    }
    SoftmaxStep<Kv>(call, step, begin, end < step.end ? end : step.end, row, scratch);
  }
  if constexpr (Dots::kExists) {
    Dots::Weigh(call, step, next, num_rows, scratch);
  } else {
    WeighStep<Kv>(call, step, next, num_rows, scratch);
  }
}

// A softmax over some of a row's keys: `out` is the sum of weighted values, `total` that of the
// weights, both relative to the maximum. Empty: total is 0.
struct Partial {
  float* out;
  float* max;
  float* total;
};

inline Partial PartialAt(float* at, int64_t head_dim) {
  return {at, at + PadTo32(head_dim), at + PadTo32(head_dim) + 1};
}
inline Partial SegmentOf(const AttentionScratch& scratch, int64_t row, int64_t head_dim) {
  return {scratch.out + row * PadTo32(head_dim), scratch.max + row, scratch.total + row};
}

inline void Clear(const Partial& to, int64_t head_dim) {
  for (int64_t i = 0; i < PadTo32(head_dim); i += 16) Store(to.out + i, Zero());
  *to.max = -__builtin_inff();
  *to.total = 0;
}

inline void CopyPartial(const Partial& from, int64_t head_dim, const Partial& to) {
  for (int64_t i = 0; i < PadTo32(head_dim); i += 16) Store(to.out + i, Load(from.out + i));
  *to.max = *from.max;
  *to.total = *from.total;
}

// whole = whole + part, for a part of later keys.
inline void MergePartial(const Partial& part, int64_t head_dim, const Partial& whole) {
  if (*part.total == 0) return;
  if (*whole.total == 0) return CopyPartial(part, head_dim, whole);
  const Vec max = Max(Set(*whole.max), Set(*part.max));
  const Vec old_factor = Exp2(Sub(Set(*whole.max), max));
  const Vec factor = Exp2(Sub(Set(*part.max), max));
  for (int64_t i = 0; i < PadTo32(head_dim); i += 16) {
    Store(whole.out + i, Fma(Load(part.out + i), factor, Mul(Load(whole.out + i), old_factor)));
  }
  StoreN(whole.total, Fma(Set(*part.total), factor, Mul(Set(*whole.total), old_factor)), 1);
  StoreN(whole.max, max, 1);
}

// The row of the result. A sink is one more score, with a value of zero.
template <typename Kv>
inline void FinishRow(const Partial& whole, int64_t head_dim, const float* sink, float* out) {
  Vec factor = Set(1.0f);
  Vec total = Set(*whole.total);
  if (sink != nullptr) {
    const Vec score = Set(*sink * kLog2E);
    const Vec max = Max(Set(*whole.max), score);
    factor = Exp2(Sub(Set(*whole.max), max));
    total = Fma(total, factor, Exp2(Sub(score, max)));
  }
  const Vec inverse = Div(factor, total);
  for (int64_t i = 0; i < head_dim; i += 32) {
    Vec first = Load(whole.out + i);
    Vec second = Load(whole.out + i + 16);
    if constexpr (DotKernels<Kv>::kInterleaved) DotKernels<Kv>::SortColumns(&first, &second);
    StoreN(out + i, Mul(first, inverse), Lanes(head_dim, i));
    if (i + 16 < head_dim) StoreN(out + i + 16, Mul(second, inverse), Lanes(head_dim, i + 16));
  }
}

// Hands on what the segment summed and empties the sums.
inline void FinishSegment(const AttentionCall& call, int64_t num_rows, float** partials,
                          const AttentionScratch& scratch) {
  const int64_t stride = PartialFloats(call.head_dim);
  for (int64_t row = 0; row < num_rows; ++row) {
    const Partial segment = SegmentOf(scratch, row, call.head_dim);
    if (*partials != nullptr) {
      CopyPartial(segment, call.head_dim, PartialAt(*partials, call.head_dim));
      *partials += stride;
    } else {
      MergePartial(segment, call.head_dim, PartialAt(scratch.whole + row * stride, call.head_dim));
    }
    Clear(segment, call.head_dim);
  }
}

// Queries packed, sums empty, and the first keys under way.
template <typename Kv>
inline void BeginHead(const AttentionCall& call, int64_t head, int64_t num_rows,
                      const AttentionScratch& scratch) {
  if constexpr (DotKernels<Kv>::kExists) {
    DotKernels<Kv>::PackQueries(call, head, num_rows, scratch);
  } else {
    PackQueries<Kv>(call, head, num_rows, scratch);
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    Clear(SegmentOf(scratch, row, call.head_dim), call.head_dim);
    Clear(PartialAt(scratch.whole + row * PartialFloats(call.head_dim), call.head_dim),
          call.head_dim);
  }
}

template <typename Kv>
inline void FinishHead(const AttentionCall& call, int64_t head, int64_t num_rows,
                       const AttentionScratch& scratch) {
  const int64_t stride = PartialFloats(call.head_dim);
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t query_head = head * call.group_size + row % call.group_size;
    FinishRow<Kv>(PartialAt(scratch.whole + row * stride, call.head_dim), call.head_dim,
                  call.sinks != nullptr ? call.sinks + query_head : nullptr,
                  call.out + row / call.group_size * call.out_stride + query_head * call.head_dim);
  }
}

// What is computed after the step of a head: the next head's, of the next step, of the next call.
template <typename Kv>
inline void FindNextStep(const AttentionCall& call, const KeyStep& step, int32_t head,
                         KeyStep* next) {
  const int32_t next_position = step.start + step.end;
  if (head + 1 < call.num_heads) {
    FindStep<Kv>(call, head + 1, step.start + step.begin, next);
  } else if (next_position < call.position_end) {
    FindStep<Kv>(call, 0, next_position, next);
  } else if (call.next != nullptr) {
    FindStep<Kv>(*call.next, 0, call.next->position_begin, next);
  } else {
    *next = step;
  }
}

template <typename Kv>
void AttentionOf(const AttentionCall& call) {
  const int64_t num_rows = int64_t{call.num_tokens} * call.group_size;
  const AttentionScratch scratch =
      CutScratch(call.scratch, call.num_heads, num_rows, call.head_dim);
  const auto head_scratch = [&](int64_t head) {
    return HeadScratch(scratch, head, num_rows, call.head_dim);
  };
  if constexpr (DotKernels<Kv>::kExists) DotKernels<Kv>::Begin();
  KeyStep steps[2];
  KeyStep* step = &steps[0];
  KeyStep* next = &steps[1];
  FindStep<Kv>(call, 0, call.position_begin, step);
  if (!call.is_prefetched) {
    KeyPrefetch(*step, RowBytes<Kv>(call), 0, 1).Rest();
    KeyPrefetch(*step, RowBytes<Kv>(call), call.v_offset, 1).Rest();
  }
  for (int32_t head = 0; head < call.num_heads; ++head) {
    BeginHead<Kv>(call, head, num_rows, head_scratch(head));
  }
  float* partials = call.partials;
  for (int32_t position = call.position_begin; position < call.position_end;) {
    const int32_t next_position = step->start + step->end;
    const bool last = next_position >= call.position_end || next_position % kSegmentKeys == 0;
    for (int32_t head = 0; head < call.num_heads; ++head) {
      FindNextStep<Kv>(call, *step, head, next);
      AttentionStep<Kv>(call, *step, *next, num_rows, head_scratch(head));
      if (last) FinishSegment(call, num_rows, &partials, head_scratch(head));
      KeyStep* const done = step;
      step = next;
      next = done;
    }
    position = next_position;
  }
  if constexpr (DotKernels<Kv>::kExists) DotKernels<Kv>::End();
  if (call.partials != nullptr) return;
  for (int32_t head = 0; head < call.num_heads; ++head) {
    FinishHead<Kv>(call, head, num_rows, head_scratch(head));
  }
}

template <typename Kv>
void MergeAttentionOf(const AttentionMergeCall& call) {
  const int64_t stride = PartialFloats(call.head_dim);
  const AttentionScratch scratch = CutScratch(call.scratch, 1, 1, call.head_dim);
  for (int64_t row = 0; row < call.num_rows; ++row) {
    const Partial whole = PartialAt(scratch.whole, call.head_dim);
    Clear(whole, call.head_dim);
    for (int64_t segment = 0; segment < call.num_segments; ++segment) {
      float* at = const_cast<float*>(call.partials) + (segment * call.num_rows + row) * stride;
      MergePartial(PartialAt(at, call.head_dim), call.head_dim, whole);
    }
    FinishRow<Kv>(whole, call.head_dim, call.sinks != nullptr ? call.sinks + row : nullptr,
                  call.out + row * call.head_dim);
  }
}

void Attention(const AttentionCall& call) {
  WithKv(call.element, [&](auto kv) {
    using Kv = decltype(kv);
    if (call.group_size > kMaxPairGroup) {
      AttentionOf<typename LargeGroup<Kv>::Type>(call);
    } else {
      AttentionOf<Kv>(call);
    }
  });
}

void MergeAttention(const AttentionMergeCall& call) {
  WithKv(call.element, [&](auto kv) { MergeAttentionOf<decltype(kv)>(call); });
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_INL_H_
