// Attention with the dot products of attention_dots-inl.h, which is included before: the choice of
// the isa files that include this.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_PAIRS_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_PAIRS_INL_H_

namespace moelight {
namespace {

template <>
struct DotKernels<Bf16Kv> : PairDots<Bf16Dots> {};
template <>
struct DotKernels<I8Kv> : PairDots<I8Dots> {};

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_ATTENTION_PAIRS_INL_H_
