// LabelLayout: finds room for labels in a drawing, so that none covers another.
//
// Greedy: a label that was placed stays, and takes the nearest room that is left. Threads: plain
// value. Time: labels times obstacles.
#ifndef MOELIGHT_SERVER_LABEL_LAYOUT_H_
#define MOELIGHT_SERVER_LABEL_LAYOUT_H_

#include <vector>

#include "server/svg_canvas.h"

namespace moelight {

struct LabelBox {
  double left = 0;
  double top = 0;
  double right = 0;
  double bottom = 0;

  bool Overlaps(const LabelBox& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
  SvgPoint Nearest(SvgPoint to) const;  // of the box
};

class LabelLayout {
 public:
  explicit LabelLayout(const LabelBox& bounds) : bounds_(bounds) {}

  // Nothing may cover this.
  void Block(const LabelBox& box) { blocked_.push_back(box); }
  // Better not covered, though a label with a halo can be read over it.
  void BlockLine(SvgPoint from, SvgPoint to);

  // Pixels of distance that it is worth not to put a label there: kBlockedCost or more if it would
  // cover something blocked or leave the bounds, a little for each piece of a line.
  static constexpr double kBlockedCost = 1000;
  double Cost(const LabelBox& box) const;
  bool IsFree(const LabelBox& box) const { return Cost(box) < kBlockedCost; }
  // Room for a label beside `point`, blocked from now on. Within the bounds if it fits there at
  // all; over something else only if there is no room left.
  LabelBox PlaceBeside(SvgPoint point, double width, double height);

 private:
  LabelBox bounds_;
  std::vector<LabelBox> blocked_;
  std::vector<LabelBox> lines_;  // in small pieces
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_LABEL_LAYOUT_H_
