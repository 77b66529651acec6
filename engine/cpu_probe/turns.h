// Timing in turns: a stretch of one thing, a stretch of the other, several times over.
#ifndef MOELIGHT_ENGINE_CPU_PROBE_TURNS_H_
#define MOELIGHT_ENGINE_CPU_PROBE_TURNS_H_

#include <chrono>
#include <cstdint>

namespace moelight {

// Seconds of one call of `work`, which is called until `min_seconds` have passed, at least once.
template <typename Work>
double SecondsPerCall(double min_seconds, const Work& work) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  int64_t num_calls = 0;
  double seconds = 0;
  do {
    work();
    ++num_calls;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  } while (seconds < min_seconds);
  return seconds / static_cast<double>(num_calls);
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_PROBE_TURNS_H_
