// AttendedPairs: how much there is to do in attention.
#ifndef MOELIGHT_ENGINE_BACKEND_SIMULATED_ATTENDED_PAIRS_H_
#define MOELIGHT_ENGINE_BACKEND_SIMULATED_ATTENDED_PAIRS_H_

#include <algorithm>
#include <cstdint>

namespace moelight {

// Pairs of one of `num_new` tokens and a position that it sees, itself included, after `num_cached`
// positions; with `sliding_window` > 0 each sees no more than that.
inline int64_t AttendedPairs(int64_t num_new, int64_t num_cached, int64_t sliding_window) {
  // 1 + 2 + ... + n, without a window.
  const auto triangle = [](int64_t n) { return n * (n + 1) / 2; };
  const int64_t end = num_cached + num_new;
  if (sliding_window <= 0 || end <= sliding_window) return triangle(end) - triangle(num_cached);
  const int64_t num_partial = std::max<int64_t>(0, sliding_window - num_cached);
  return triangle(num_cached + num_partial) - triangle(num_cached) +
         (num_new - num_partial) * sliding_window;
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_SIMULATED_ATTENDED_PAIRS_H_
