// SvgCanvas: shapes and text, gathered as SVG that needs nothing else: no scripts, no style sheets,
// no fonts of its own.
//
// Coordinates are pixels from the top left. Text may hold anything: it is escaped, and what XML
// cannot hold is replaced. Threads: plain value.
#ifndef MOELIGHT_SERVER_SVG_CANVAS_H_
#define MOELIGHT_SERVER_SVG_CANVAS_H_

#include <string>
#include <vector>

#include <absl/strings/string_view.h>

namespace moelight {

struct SvgPoint {
  double x = 0;
  double y = 0;
};

struct SvgTextStyle {
  double size = 12;
  const char* anchor = "start";  // start, middle, end
  const char* color = "#222222";
  bool bold = false;
  bool halo = false;  // white around the letters, for text over lines
  double angle = 0;   // degrees, clockwise around the anchor
};

struct SvgLineStyle {
  const char* color = "#222222";
  double width = 1;
  bool dashed = false;
};

class SvgCanvas {
 public:
  void Line(SvgPoint from, SvgPoint to, const SvgLineStyle& style);
  void Polyline(const std::vector<SvgPoint>& points, const SvgLineStyle& style);
  void Frame(SvgPoint top_left, SvgPoint bottom_right, const char* color);
  // With a note that viewers show under the mouse.
  void Dot(SvgPoint center, double radius, const char* color, absl::string_view note);
  void Diamond(SvgPoint center, double radius, const char* color, absl::string_view note);
  void Text(SvgPoint at, absl::string_view text, const SvgTextStyle& style = {});
  // Ten to the power of `exponent`.
  void PowerOfTen(SvgPoint at, int exponent, const SvgTextStyle& style);

  // The whole document, on white.
  std::string Document(double width, double height, absl::string_view title) const;

 private:
  std::string body_;
};

std::string EscapeXml(absl::string_view text);
// About how wide the text will be: fonts differ.
double SvgTextWidth(absl::string_view text, double size);
// The beginning of the text, with an ellipsis if there is more than fits.
std::string CutToWidth(absl::string_view text, double size, double width);
// Lines between words. A word that is wider alone is cut.
std::vector<std::string> WrapToWidth(absl::string_view text, double size, double width);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_SVG_CANVAS_H_
