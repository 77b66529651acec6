#include "server/label_layout.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moelight {
namespace {

constexpr double kPiece = 6;     // pixels of a line
constexpr double kLineCost = 4;  // of a piece

LabelBox BoxAround(double x, double y, double width, double height) {
  return {x - width / 2, y - height / 2, x + width / 2, y + height / 2};
}

bool Contains(const LabelBox& outer, const LabelBox& inner) {
  return inner.left >= outer.left && inner.right <= outer.right && inner.top >= outer.top &&
         inner.bottom <= outer.bottom;
}

}  // namespace

SvgPoint LabelBox::Nearest(SvgPoint to) const {
  return {std::clamp(to.x, left, right), std::clamp(to.y, top, bottom)};
}

void LabelLayout::BlockLine(SvgPoint from, SvgPoint to) {
  const double length = std::hypot(to.x - from.x, to.y - from.y);
  const int num_pieces = static_cast<int>(length / kPiece) + 1;
  for (int i = 0; i <= num_pieces; ++i) {
    const double share = static_cast<double>(i) / num_pieces;
    lines_.push_back(BoxAround(from.x + share * (to.x - from.x), from.y + share * (to.y - from.y),
                               kPiece / 2, kPiece / 2));
  }
}

double LabelLayout::Cost(const LabelBox& box) const {
  const auto overlaps = [&box](const LabelBox& other) { return other.Overlaps(box); };
  return (Contains(bounds_, box) ? 0 : kBlockedCost) +
         kBlockedCost * std::count_if(blocked_.begin(), blocked_.end(), overlaps) +
         kLineCost * std::count_if(lines_.begin(), lines_.end(), overlaps);
}

LabelBox LabelLayout::PlaceBeside(SvgPoint point, double width, double height) {
  // Right first, then left, then above and below, turning outwards.
  constexpr SvgPoint kDirections[] = {{1, 0},  {-1, 0}, {1, -1},  {1, 1},  {-1, -1},  {-1, 1},
                                      {0, -1}, {0, 1},  {1, -.5}, {1, .5}, {-1, -.5}, {-1, .5}};
  constexpr double kDistances[] = {8, 14, 22, 32, 46, 64, 88, 120, 160, 210, 270, 350};
  LabelBox best;
  double best_cost = std::numeric_limits<double>::infinity();
  for (const double distance : kDistances) {
    for (const SvgPoint& direction : kDirections) {
      const LabelBox box =
          BoxAround(point.x + direction.x * (distance + width / 2),
                    point.y + direction.y * (distance + height / 2), width, height);
      if (!Contains(bounds_, box)) continue;
      const double cost = distance + Cost(box);
      if (cost >= best_cost) continue;
      best = box;
      best_cost = cost;
    }
  }
  if (!std::isfinite(best_cost)) {  // larger than all of the bounds
    best = {bounds_.left, bounds_.top, bounds_.left + width, bounds_.top + height};
  }
  Block(best);
  return best;
}

}  // namespace moelight
