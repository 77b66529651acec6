// RateCurve: a rate that was measured at some sizes and is wanted at others.
//
// Plain values; threads: none of its own.
#ifndef MOELIGHT_ENGINE_BASE_RATE_CURVE_H_
#define MOELIGHT_ENGINE_BASE_RATE_CURVE_H_

#include <vector>

namespace moelight {

struct RateCurve {
  struct Point {
    double size = 0;  // > 0, ascending
    double rate = 0;  // > 0, per second
  };
  std::vector<Point> points;

  bool empty() const { return points.empty(); }
  // Between two points along the logarithm of the size, beyond them the nearest. 0 if empty.
  double At(double size) const;
  // The largest rate; 0 if empty.
  double Peak() const;
  void Scale(double factor);
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_RATE_CURVE_H_
