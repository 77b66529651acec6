#include "engine/base/rate_curve.h"

#include <algorithm>
#include <cmath>

namespace moelight {

double RateCurve::At(double size) const {
  if (points.empty()) return 0;
  const auto above =
      std::lower_bound(points.begin(), points.end(), size,
                       [](const Point& point, double value) { return point.size < value; });
  if (above == points.begin()) return points.front().rate;
  if (above == points.end()) return points.back().rate;
  const Point& below = *(above - 1);
  const double share = std::log(size / below.size) / std::log(above->size / below.size);
  return below.rate + share * (above->rate - below.rate);
}

double RateCurve::Peak() const {
  double peak = 0;
  for (const Point& point : points) peak = std::max(peak, point.rate);
  return peak;
}

void RateCurve::Scale(double factor) {
  for (Point& point : points) point.rate *= factor;
}

}  // namespace moelight
