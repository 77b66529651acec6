// CeilDiv: how many pieces of a size hold a number of things.
#ifndef MOELIGHT_ENGINE_BASE_CEIL_DIV_H_
#define MOELIGHT_ENGINE_BASE_CEIL_DIV_H_

#include <cstdint>

namespace moelight {

// a / b, rounded up; a >= 0, b > 0.
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_CEIL_DIV_H_
