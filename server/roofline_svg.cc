#include "server/roofline_svg.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "server/label_layout.h"
#include "server/svg_canvas.h"

namespace moelight {
namespace {

constexpr double kWidth = 1000;
constexpr double kLeft = 120, kRight = 976, kTop = 62, kBottom = 560;  // of the plot
constexpr double kLegendTop = 622;
constexpr double kLegendLine = 19;
constexpr double kTextSize = 12;
constexpr double kTextHeight = 15;
constexpr double kBlockedCost = LabelLayout::kBlockedCost;
constexpr int kMaxDecades = 14;
constexpr size_t kMaxLabels = 60;  // nobody could read more
// Told apart by people who do not see all colors (after Okabe and Ito).
constexpr const char* kRoofColors[] = {"#0072b2", "#d55e00", "#008a64", "#a3508a",
                                       "#a87400", "#3a7ca5", "#6b4c9a", "#555555"};
constexpr char kPointColor[] = "#111111";
constexpr char kTurnColor[] = "#666666";

bool IsDrawable(double value) { return value >= 1e-9 && value <= 1e27; }
bool IsDrawable(const RooflineChart::Roof& roof) {
  return IsDrawable(roof.bytes_per_s) && IsDrawable(roof.peak_flops_per_s) &&
         IsDrawable(roof.peak_flops_per_s / roof.bytes_per_s);
}
template <typename Mark>
bool IsDrawable(const Mark& mark) {
  return IsDrawable(mark.flop_per_byte) && IsDrawable(mark.flops_per_s);
}

// 55.4e9 as "55.4 G".
std::string WithPrefix(double value) {
  constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  const int third = static_cast<int>(std::floor(std::log10(value) / 3 + 1e-12));
  if (third < 0 || third > 6) return absl::StrFormat("%.3g ", value);
  return absl::StrFormat("%.4g %s", value / std::pow(1000.0, third), kPrefixes[third]);
}

// Three digits, without an exponent where that can be read.
std::string PlainNumber(double value) {
  return value >= 1000 && value < 1e7 ? absl::StrFormat("%.0f", value)
                                      : absl::StrFormat("%.3g", value);
}

// Whole decades around all values.
class Axis {
 public:
  Axis(double begin, double end) : begin_(begin), end_(end) {}

  void Include(double value) {
    const double exponent = std::log10(value);
    low_ = is_empty_ ? exponent : std::min(low_, exponent);
    high_ = is_empty_ ? exponent : std::max(high_, exponent);
    is_empty_ = false;
  }
  void Finish(int default_low, int default_high) {
    if (is_empty_) low_ = default_low, high_ = default_high;
    // A margin, so that nothing lies on the frame.
    low_ = std::floor(is_empty_ ? low_ : low_ - 0.15);
    high_ = std::ceil(is_empty_ ? high_ : high_ + 0.15);
    low_ = std::max(low_, high_ - kMaxDecades);
  }

  double At(double value) const {
    const double share = (std::log10(value) - low_) / (high_ - low_);
    return begin_ + std::clamp(share, 0.0, 1.0) * (end_ - begin_);
  }
  double pixels_per_decade() const { return std::abs(end_ - begin_) / (high_ - low_); }
  int low() const { return static_cast<int>(low_); }
  int high() const { return static_cast<int>(high_); }

 private:
  const double begin_, end_;
  bool is_empty_ = true;
  double low_ = 0, high_ = 1;
};

class Drawing {
 public:
  explicit Drawing(const RooflineChart& chart)
      : x_(kLeft, kRight),
        y_(kBottom, kTop),
        layout_({kLeft + 4, kTop + 4, kRight - 4, kBottom - 4}) {
    title_ = chart.title;
    for (const auto& roof : chart.roofs) {
      if (IsDrawable(roof)) roofs_.push_back(roof);
    }
    for (const auto& point : chart.points) {
      if (IsDrawable(point)) points_.push_back(point);
    }
    for (const auto& turn : chart.turns) {
      if (IsDrawable(turn)) turns_.push_back(turn);
    }
    ChooseAxes();
  }

  std::string Draw() {
    canvas_.Text({kLeft, 36}, CutToWidth(title_, 19, kRight - kLeft), {.size = 18, .bold = true});
    DrawGrid();
    BlockMarks(points_);
    BlockMarks(turns_);
    DrawTurns();
    for (size_t i = 0; i < roofs_.size(); ++i) DrawRoof(roofs_[i], RoofColor(i));
    for (size_t i = 0; i < roofs_.size(); ++i) DrawRoofName(roofs_[i], RoofColor(i));
    DrawPoints();
    const double height = DrawLegend();
    return canvas_.Document(kWidth, height, title_.empty() ? "Roofline" : title_);
  }

 private:
  static const char* RoofColor(size_t i) { return kRoofColors[i % std::size(kRoofColors)]; }

  void ChooseAxes() {
    for (const auto& roof : roofs_) x_.Include(roof.peak_flops_per_s / roof.bytes_per_s);
    for (const auto& point : points_) x_.Include(point.flop_per_byte);
    for (const auto& turn : turns_) x_.Include(turn.flop_per_byte);
    x_.Finish(-1, 4);
    for (const auto& roof : roofs_) y_.Include(roof.peak_flops_per_s);
    // The slope of every roof is to be seen.
    for (const auto& roof : roofs_) {
      const double at_left = roof.bytes_per_s * std::pow(10.0, x_.low());
      y_.Include(std::min(at_left, roof.peak_flops_per_s));
    }
    for (const auto& point : points_) y_.Include(point.flops_per_s);
    for (const auto& turn : turns_) y_.Include(turn.flops_per_s);
    y_.Finish(9, 15);
  }

  void DrawGrid() {
    for (int exponent = x_.low(); exponent <= x_.high(); ++exponent) {
      const double x = x_.At(std::pow(10.0, exponent));
      if (exponent < x_.high() && x_.high() - x_.low() <= 9) DrawMinorLines(exponent);
      canvas_.Line({x, kTop}, {x, kBottom}, {"#d5d5d5"});
      const SvgTextStyle style = {.anchor = "middle", .color = "#444444"};
      if (exponent >= -2 && exponent <= 3) {
        canvas_.Text({x, kBottom + 18}, absl::StrCat(std::pow(10.0, exponent)), style);
      } else {
        canvas_.PowerOfTen({x, kBottom + 18}, exponent, style);
      }
    }
    for (int exponent = y_.low(); exponent <= y_.high(); ++exponent) {
      const double y = y_.At(std::pow(10.0, exponent));
      canvas_.Line({kLeft, y}, {kRight, y}, {"#d5d5d5"});
      canvas_.Text({kLeft - 8, y + 4}, absl::StrCat(WithPrefix(std::pow(10.0, exponent)), "FLOP/s"),
                   {.anchor = "end", .color = "#444444"});
    }
    canvas_.Frame({kLeft, kTop}, {kRight, kBottom}, "#888888");
    canvas_.Text({(kLeft + kRight) / 2, kBottom + 40}, "operational intensity, FLOP per byte",
                 {.size = 13, .anchor = "middle"});
    canvas_.Text({18, (kTop + kBottom) / 2}, "attained operations per second",
                 {.size = 13, .anchor = "middle", .angle = -90});
  }

  void DrawMinorLines(int exponent) {
    for (int i = 2; i <= 9; ++i) {
      const double x = x_.At(i * std::pow(10.0, exponent));
      canvas_.Line({x, kTop}, {x, kBottom}, {"#f1f1f1"});
    }
  }

  template <typename Mark>
  void BlockMarks(const std::vector<Mark>& marks) {
    for (const Mark& mark : marks) {
      const double x = x_.At(mark.flop_per_byte), y = y_.At(mark.flops_per_s);
      layout_.Block({x - 6, y - 6, x + 6, y + 6});
    }
  }

  void DrawTurns() {
    for (const auto& turn : turns_) {
      const double x = x_.At(turn.flop_per_byte);
      canvas_.Line({x, kTop}, {x, kBottom}, {.color = kTurnColor, .width = 1.2, .dashed = true});
      layout_.BlockLine({x, kTop}, {x, kBottom});
    }
    for (const auto& turn : turns_) {
      const double x = x_.At(turn.flop_per_byte);
      const std::string name = CutToWidth(turn.name, kTextSize, 160);
      const double width = SvgTextWidth(name, kTextSize) + 4;
      const bool is_left = x + width + 8 > kRight;
      const double left = is_left ? x - width - 3 : x + 3;
      LabelBox box = {left, kTop + 5, left + width, kTop + 5 + kTextHeight};
      while (!layout_.IsFree(box) && box.bottom + kTextHeight < kBottom) {
        box.top += kTextHeight;
        box.bottom += kTextHeight;
      }
      layout_.Block(box);
      canvas_.Text({box.left + 2, box.bottom - 4}, name,
                   {.color = kTurnColor, .bold = true, .halo = true});
    }
  }

  // Left end, ridge and right end within the plot. A slope of one decade by decade.
  std::vector<SvgPoint> RoofLine(const RooflineChart::Roof& roof) const {
    const double left =
        std::max(std::pow(10.0, x_.low()), std::pow(10.0, y_.low()) / roof.bytes_per_s);
    const double ridge = std::max(left, roof.peak_flops_per_s / roof.bytes_per_s);
    const double left_rate = std::min(roof.bytes_per_s * left, roof.peak_flops_per_s);
    return {{x_.At(left), y_.At(left_rate)},
            {x_.At(ridge), y_.At(roof.peak_flops_per_s)},
            {kRight, y_.At(roof.peak_flops_per_s)}};
  }

  void DrawRoof(const RooflineChart::Roof& roof, const char* color) {
    const std::vector<SvgPoint> line = RoofLine(roof);
    canvas_.Polyline(line, {.color = color, .width = 2.5});
    layout_.BlockLine(line[0], line[1]);
    layout_.BlockLine(line[1], line[2]);
  }

  // A place for a name along a line.
  struct Slot {
    SvgPoint from;
    SvgPoint along;               // of length 1
    std::vector<LabelBox> boxes;  // that it covers: small ones, because the text may be slanted
    double cost = kBlockedCost;
  };

  // On the slope or on the flat part, wherever it covers the fewest lines; nowhere if it would
  // cover another name, because the legend has it in any case.
  void DrawRoofName(const RooflineChart::Roof& roof, const char* color) {
    const std::string name = CutToWidth(roof.name, kTextSize, 300);
    const std::vector<SvgPoint> line = RoofLine(roof);
    const double width = SvgTextWidth(name, kTextSize);
    const Slot slope = FindSlot(line[0], line[1], width);
    const Slot flat = FindSlot(line[1], line[2], width);
    // Flat parts often lie on one another, and a name there could be either's.
    constexpr double kFlatCost = 20;
    const Slot& best = slope.cost <= flat.cost + kFlatCost ? slope : flat;
    if (best.cost >= kBlockedCost) return;
    for (const LabelBox& box : best.boxes) layout_.Block(box);
    canvas_.Text(best.from, name,
                 {.color = color,
                  .halo = true,
                  .angle = std::atan2(best.along.y, best.along.x) * 180 / M_PI});
  }

  // The cheapest place above the line, the first of them if there are several.
  Slot FindSlot(SvgPoint from, SvgPoint to, double width) const {
    constexpr double kMargin = 18, kStep = 12, kAbove = 5, kHalfBox = 5;
    const double length = std::hypot(to.x - from.x, to.y - from.y);
    const SvgPoint along = {(to.x - from.x) / length, (to.y - from.y) / length};
    const SvgPoint above = {along.y, -along.x};
    const auto at = [&](double offset, double height) -> SvgPoint {
      return {from.x + along.x * offset + above.x * height,
              from.y + along.y * offset + above.y * height};
    };
    Slot best;
    for (double begin = kMargin; begin + width + kMargin <= length; begin += kStep) {
      Slot slot = {at(begin, kAbove), along, {}, 0};
      for (double offset = 0; offset <= width; offset += 8) {
        const SvgPoint center = at(begin + offset, kAbove + 4);
        slot.boxes.push_back(
            {center.x - kHalfBox, center.y - kHalfBox, center.x + kHalfBox, center.y + kHalfBox});
        slot.cost += layout_.Cost(slot.boxes.back());
      }
      if (slot.cost < best.cost) best = std::move(slot);
    }
    return best;
  }

  void DrawPoints() {
    for (size_t i = 0; i < std::min(points_.size(), kMaxLabels); ++i) {
      const SvgPoint at = {x_.At(points_[i].flop_per_byte), y_.At(points_[i].flops_per_s)};
      const std::string name = CutToWidth(points_[i].name, kTextSize, 320);
      const LabelBox box = layout_.PlaceBeside(at, SvgTextWidth(name, kTextSize) + 4, kTextHeight);
      const SvgPoint near = box.Nearest(at);
      if (std::hypot(near.x - at.x, near.y - at.y) > 16) {
        canvas_.Line(at, near, {.color = "#777777", .width = 0.8});
      }
      canvas_.Text({box.left + 2, box.bottom - 4}, name, {.color = kPointColor, .halo = true});
    }
    for (const auto& turn : turns_) {
      canvas_.Diamond({x_.At(turn.flop_per_byte), y_.At(turn.flops_per_s)}, 6, kTurnColor,
                      Describe(turn));
    }
    for (const auto& point : points_) {
      canvas_.Dot({x_.At(point.flop_per_byte), y_.At(point.flops_per_s)}, 5, kPointColor,
                  Describe(point));
    }
  }

  template <typename Mark>
  static std::string Describe(const Mark& mark) {
    return absl::StrCat(mark.name, ": ", PlainNumber(mark.flop_per_byte), " FLOP per byte, ",
                        WithPrefix(mark.flops_per_s), "FLOP/s");
  }

  // Returns where the picture ends.
  double DrawLegend() {
    double y = kLegendTop;
    if (roofs_.empty() && points_.empty() && turns_.empty()) {
      canvas_.Text({kLeft, y}, "nothing to draw");
      return y + kLegendLine;
    }
    for (size_t i = 0; i < roofs_.size(); ++i) {
      canvas_.Line({kLeft, y - 4}, {kLeft + 26, y - 4}, {.color = RoofColor(i), .width = 2.5});
      y = DrawLegendText(
          y, absl::StrCat(roofs_[i].name, ": ", WithPrefix(roofs_[i].bytes_per_s), "B/s, at most ",
                          WithPrefix(roofs_[i].peak_flops_per_s), "FLOP/s"));
    }
    for (const auto& turn : turns_) {
      canvas_.Diamond({kLeft + 13, y - 4}, 6, kTurnColor, turn.name);
      y = DrawLegendText(
          y, absl::StrCat(Describe(turn), turn.meaning.empty() ? "" : "; ", turn.meaning));
    }
    return y;
  }

  double DrawLegendText(double y, const std::string& text) {
    for (const std::string& line : WrapToWidth(text, kTextSize, kRight - kLeft - 40)) {
      canvas_.Text({kLeft + 36, y}, line);
      y += kLegendLine;
    }
    return y;
  }

  std::string title_;
  std::vector<RooflineChart::Roof> roofs_;
  std::vector<RooflineChart::Point> points_;
  std::vector<RooflineChart::Turn> turns_;
  Axis x_, y_;
  LabelLayout layout_;
  SvgCanvas canvas_;
};

}  // namespace

std::string RooflineSvg(const RooflineChart& chart) { return Drawing(chart).Draw(); }

}  // namespace moelight
