// The formats of K and V in the cache: how a row is stored, and how its elements come to registers.
// Included by isa_*.cc after rows-inl.h. engine/backend/kv_format.h says what the formats are.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_KV_ROWS_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_KV_ROWS_INL_H_

namespace moelight {
namespace {

// The largest magnitude of a row.
inline float LargestOf(const float* x, int64_t n) {
  Vec magnitude = Zero();
  for (int64_t i = 0; i < n; i += 16) magnitude = Max(Abs(LoadN(x + i, Lanes(n, i))), magnitude);
  return MaxOf(magnitude);
}

inline void StoreF16Row(const float* x, int64_t n, uint16_t* row) {
  const Vec largest = Set(65504.0f);
  const Vec smallest = Set(-65504.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t lanes = Lanes(n, i);
    StoreF16N(row + i, Max(smallest, Min(largest, LoadN(x + i, lanes))), lanes);
  }
}

inline void StoreI8Row(const float* x, int64_t n, int8_t* row, float* scale) {
  constexpr float kMaxInt8 = 127;
  const float largest = LargestOf(x, n);
  *scale = largest / kMaxInt8;
  const Vec inverse = Set(largest > 0 ? kMaxInt8 / largest : 0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t lanes = Lanes(n, i);
    StoreI8N(row + i, Mul(LoadN(x + i, lanes), inverse), lanes);
  }
}

// Every format has: Element; kWordElements, elements in 32 bits; Load() and LoadN() of V; Split()
// of a line of transposed K, 16 words, into one Vec per element of a word; StoreRow(). kPairs: such
// a line is a line of bf16_tiled, so that scores are a matrix product like any other.
struct Bf16Kv {
  using Element = uint16_t;
  static constexpr int kWordElements = 2;
  static constexpr bool kPairs = true;
  static constexpr bool kScales = false;
  static Vec Load(const Element* p) { return LoadBf16(p); }
  static Vec LoadN(const Element* p, int64_t n) { return LoadBf16N(p, n); }
  static void StoreRow(const float* x, int64_t n, void* row, float*) {
    F32ToBf16(x, n, static_cast<uint16_t*>(row));
  }
};

struct F16Kv {
  using Element = uint16_t;
  static constexpr int kWordElements = 2;
  static constexpr bool kPairs = false;
  static constexpr bool kScales = false;
  static Vec Load(const Element* p) { return LoadF16(p); }
  static Vec LoadN(const Element* p, int64_t n) { return LoadF16N(p, n); }
  static void Split(const uint16_t* line, Vec* parts) { SplitF16(line, parts); }
  static void StoreRow(const float* x, int64_t n, void* row, float*) {
    StoreF16Row(x, n, static_cast<uint16_t*>(row));
  }
};

struct I8Kv {
  using Element = int8_t;
  static constexpr int kWordElements = 4;
  static constexpr bool kPairs = false;
  static constexpr bool kScales = true;
  static Vec Load(const Element* p) { return LoadI8(p); }
  static Vec LoadN(const Element* p, int64_t n) { return LoadI8N(p, n); }
  static void Split(const uint16_t* line, Vec* parts) { SplitI8(line, parts); }
  static void StoreRow(const float* x, int64_t n, void* row, float* scale) {
    StoreI8Row(x, n, static_cast<int8_t*>(row), scale);
  }
};

// Calls body(kv) with the format of `element`.
template <typename Body>
inline void WithKv(KvElement element, const Body& body) {
  if (element == KvElement::kBf16) {
    body(Bf16Kv());
  } else if (element == KvElement::kF16) {
    body(F16Kv());
  } else {
    body(I8Kv());
  }
}

void StoreKv(const StoreKvCall& call) {
  WithKv(call.element, [&](auto kv) { kv.StoreRow(call.x, call.head_dim, call.row, call.scale); });
}

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_KV_ROWS_INL_H_
