// Kernels on single rows: norms, activations, rotary embedding, conversions, router.
// Included by isa_*.cc after a simd header.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ROWS_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ROWS_INL_H_

namespace moelight {
namespace {

constexpr float kLog2E = 1.44269504088896340736f;

// Lanes left of a row of `n` at `i`, at most 16.
inline int64_t Lanes(int64_t n, int64_t i) { return n - i < 16 ? n - i : 16; }

// 2^x within 2 ulp; 0 below -126.5, at most 2^127; NaN stays NaN.
inline Vec Exp2(Vec x) {
  x = Min(Set(127.0f), Max(Set(-127.0f), x));
  const Vec whole = Round(x);
  const Vec f = Sub(x, whole);  // in [-1/2, 1/2]
  // The Taylor series of e^(f ln 2): coefficients ln(2)^k / k!. The first one left out is below
  // 2^-23 at f = 1/2.
  Vec p = Set(1.5403530393381609954e-4f);
  p = Fma(p, f, Set(1.3333558146428443423e-3f));
  p = Fma(p, f, Set(9.6181291076284771620e-3f));
  p = Fma(p, f, Set(5.5504108664821579953e-2f));
  p = Fma(p, f, Set(2.4022650695910071233e-1f));
  p = Fma(p, f, Set(6.9314718055994530942e-1f));
  p = Fma(p, f, Set(1.0f));
  return ScaleByPowerOfTwo(p, whole);
}

// 1 / sqrt(mean(x^2) + epsilon)
inline float InverseRms(const float* x, int64_t n, float epsilon) {
  Vec sum = Zero();
  for (int64_t i = 0; i < n; i += 16) {
    const Vec v = LoadN(x + i, Lanes(n, i));
    sum = Fma(v, v, sum);
  }
  const float mean = Sum(sum) / static_cast<float>(n);
  return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + epsilon)));
}

void RmsNorm(const float* x, const float* weight, int64_t n, float epsilon, float* y) {
  const Vec scale = Set(InverseRms(x, n, epsilon));
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t lanes = Lanes(n, i);
    StoreN(y + i, Mul(Mul(LoadN(x + i, lanes), scale), LoadN(weight + i, lanes)), lanes);
  }
}

void Rope(const RopeCall& call) {
  const int64_t half = call.head_dim / 2;
  for (int32_t head = 0; head < call.num_heads; ++head) {
    float* low = call.heads + int64_t{head} * call.head_dim;
    float* high = low + half;
    const bool norm = call.norm != nullptr;
    const Vec scale = norm ? Set(InverseRms(low, call.head_dim, call.epsilon)) : Zero();
    for (int64_t i = 0; i < half; i += 16) {
      const int64_t lanes = Lanes(half, i);
      Vec a = LoadN(low + i, lanes);
      Vec b = LoadN(high + i, lanes);
      if (norm) {
        a = Mul(Mul(a, scale), LoadN(call.norm + i, lanes));
        b = Mul(Mul(b, scale), LoadN(call.norm + half + i, lanes));
      }
      const Vec cos = LoadN(call.cos + i, lanes);
      const Vec sin = LoadN(call.sin + i, lanes);
      StoreN(low + i, Fnma(b, sin, Mul(a, cos)), lanes);
      StoreN(high + i, Fma(a, sin, Mul(b, cos)), lanes);
    }
  }
}

void Combine(const CombineCall& call) {
  for (int64_t i = 0; i < call.num_cols; i += 16) {
    const int64_t lanes = Lanes(call.num_cols, i);
    Vec sum = LoadN(call.y + i, lanes);
    for (int32_t k = 0; k < call.num_slots; ++k) {
      const float* row = call.rows + call.slots[k] * call.num_cols;
      sum = Fma(Set(call.gates[k]), LoadN(row + i, lanes), sum);
    }
    StoreN(call.y + i, sum, lanes);
  }
}

template <int kRows, int kExperts>
inline void RouterTile(const float* x, int64_t num_cols, const float* weight, float* out,
                       int64_t out_stride) {
  Vec sum[kRows][kExperts];
  for (int r = 0; r < kRows; ++r) {
    for (int e = 0; e < kExperts; ++e) sum[r][e] = Zero();
  }
  for (int64_t i = 0; i < num_cols; i += 16) {
    const int64_t lanes = Lanes(num_cols, i);
    Vec w[kExperts];
    for (int e = 0; e < kExperts; ++e) w[e] = LoadN(weight + e * num_cols + i, lanes);
    for (int r = 0; r < kRows; ++r) {
      const Vec v = LoadN(x + r * num_cols + i, lanes);
      for (int e = 0; e < kExperts; ++e) sum[r][e] = Fma(v, w[e], sum[r][e]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int e = 0; e < kExperts; ++e) out[r * out_stride + e] = Sum(sum[r][e]);
  }
}

void RouterLogits(const float* x, int64_t num_rows, int64_t num_cols, const float* weight,
                  int64_t num_experts, float* out) {
  int64_t height = 0;
  for (int64_t r = 0; r < num_rows; r += height) {
    height = r + kRouterRows <= num_rows ? kRouterRows : 1;
    const float* rows = x + r * num_cols;
    int64_t width = 0;
    for (int64_t e = 0; e < num_experts; e += width) {
      width = e + kRouterExperts <= num_experts ? kRouterExperts : 1;
      const float* w = weight + e * num_cols;
      float* at = out + r * num_experts + e;
      if (height > 1 && width > 1) {
        RouterTile<kRouterRows, kRouterExperts>(rows, num_cols, w, at, num_experts);
      } else if (height > 1) {
        RouterTile<kRouterRows, 1>(rows, num_cols, w, at, num_experts);
      } else if (width > 1) {
        RouterTile<1, kRouterExperts>(rows, num_cols, w, at, num_experts);
      } else {
        RouterTile<1, 1>(rows, num_cols, w, at, num_experts);
      }
    }
  }
}

void Softmax(float* x, int64_t n) {
  const Vec lowest = Set(-__builtin_inff());
  Vec largest = lowest;
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t lanes = Lanes(n, i);
    largest = Max(largest, KeepRange(LoadN(x + i, lanes), 0, lanes, lowest));
  }
  const Vec max = Set(MaxOf(largest));
  Vec sum = Zero();
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t lanes = Lanes(n, i);
    const Vec p = Exp2(Mul(Sub(LoadN(x + i, lanes), max), Set(kLog2E)));
    sum = Add(sum, KeepRange(p, 0, lanes, Zero()));
    StoreN(x + i, p, lanes);
  }
  const Vec total = Set(Sum(sum));
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t lanes = Lanes(n, i);
    StoreN(x + i, Div(LoadN(x + i, lanes), total), lanes);
  }
}

void Bf16ToF32(const uint16_t* x, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) Store(y + i, LoadBf16(x + i));
  if (i < n) StoreN(y + i, LoadBf16N(x + i, n - i), n - i);
}

void F32ToBf16(const float* x, int64_t n, uint16_t* y) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) StoreBf16(y + i, Load(x + i));
  if (i < n) StoreBf16N(y + i, LoadN(x + i, n - i), n - i);
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ROWS_INL_H_
