#include "server/svg_canvas.h"

#include <algorithm>
#include <cstdint>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

namespace moelight {
namespace {

constexpr char kReplacement[] = "\xef\xbf\xbd";  // U+FFFD
constexpr char kEllipsis[] = "\xe2\x80\xa6";     // U+2026

// Takes one character off the front. 0 for bytes that are no UTF-8, of which one is taken.
uint32_t NextCharacter(absl::string_view& text) {
  const auto byte = [&text](size_t i) -> uint32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const uint32_t first = byte(0);
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
  uint32_t character = length <= 1 ? first : first & (0xff >> (length + 1));
  bool is_valid = length > 0;
  for (size_t i = 1; i < length; ++i) {
    is_valid = is_valid && (byte(i) & 0xc0) == 0x80;
    character = character << 6 | (byte(i) & 0x3f);
  }
  const bool is_overlong =
      (length == 3 && character < 0x800) || (length == 4 && character < 0x10000);
  const bool is_surrogate = character >= 0xd800 && character < 0xe000;
  if (!is_valid || is_overlong || is_surrogate || character > 0x10ffff) {
    text.remove_prefix(1);
    return 0;
  }
  text.remove_prefix(length);
  return character;
}

// Of the wider fonts: a viewer takes what it has.
double CharacterWidth(uint32_t character, double size) {
  if (character >= 0x1100) return size;  // Chinese, Japanese, Korean and symbols
  if (character >= 'A' && character <= 'Z') return 0.7 * size;
  return character == ' ' || character == 'i' || character == 'l' ? 0.31 * size : 0.6 * size;
}

std::string LineAttributes(const SvgLineStyle& style) {
  return absl::StrFormat("stroke=\"%s\" stroke-width=\"%.1f\"%s", style.color, style.width,
                         style.dashed ? " stroke-dasharray=\"5 4\"" : "");
}

std::string TextAttributes(SvgPoint at, const SvgTextStyle& style) {
  std::string text = absl::StrFormat("x=\"%.1f\" y=\"%.1f\" font-size=\"%g\" fill=\"%s\"", at.x,
                                     at.y, style.size, style.color);
  if (absl::string_view(style.anchor) != "start") {
    absl::StrAppend(&text, " text-anchor=\"", style.anchor, "\"");
  }
  if (style.bold) absl::StrAppend(&text, " font-weight=\"bold\"");
  if (style.halo) {
    absl::StrAppend(&text,
                    " stroke=\"#ffffff\" stroke-width=\"3.5\" stroke-linejoin=\"round\" "
                    "paint-order=\"stroke\"");
  }
  if (style.angle != 0) {
    absl::StrAppendFormat(&text, " transform=\"rotate(%.2f %.1f %.1f)\"", style.angle, at.x, at.y);
  }
  return text;
}

}  // namespace

void SvgCanvas::Line(SvgPoint from, SvgPoint to, const SvgLineStyle& style) {
  absl::StrAppendFormat(&body_, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n",
                        from.x, from.y, to.x, to.y, LineAttributes(style));
}

void SvgCanvas::Polyline(const std::vector<SvgPoint>& points, const SvgLineStyle& style) {
  absl::StrAppend(&body_, "<polyline points=\"");
  for (size_t i = 0; i < points.size(); ++i) {
    absl::StrAppendFormat(&body_, "%s%.1f,%.1f", i == 0 ? "" : " ", points[i].x, points[i].y);
  }
  absl::StrAppend(&body_, "\" fill=\"none\" stroke-linejoin=\"round\" ", LineAttributes(style),
                  "/>\n");
}

void SvgCanvas::Frame(SvgPoint top_left, SvgPoint bottom_right, const char* color) {
  absl::StrAppendFormat(
      &body_, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" %s/>\n",
      top_left.x, top_left.y, bottom_right.x - top_left.x, bottom_right.y - top_left.y,
      LineAttributes({color}));
}

void SvgCanvas::Dot(SvgPoint center, double radius, const char* color, absl::string_view note) {
  absl::StrAppendFormat(&body_,
                        "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\" stroke=\"#ffffff\">"
                        "<title>%s</title></circle>\n",
                        center.x, center.y, radius, color, EscapeXml(note));
}

void SvgCanvas::Diamond(SvgPoint center, double radius, const char* color, absl::string_view note) {
  absl::StrAppendFormat(&body_,
                        "<polygon points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f\" fill=\"%s\" "
                        "stroke=\"#ffffff\"><title>%s</title></polygon>\n",
                        center.x - radius, center.y, center.x, center.y - radius, center.x + radius,
                        center.y, center.x, center.y + radius, color, EscapeXml(note));
}

void SvgCanvas::Text(SvgPoint at, absl::string_view text, const SvgTextStyle& style) {
  absl::StrAppend(&body_, "<text ", TextAttributes(at, style), ">", EscapeXml(text), "</text>\n");
}

void SvgCanvas::PowerOfTen(SvgPoint at, int exponent, const SvgTextStyle& style) {
  absl::StrAppendFormat(&body_,
                        "<text %s>10<tspan dy=\"%.1f\" font-size=\"%g\">%d</tspan></text>\n",
                        TextAttributes(at, style), -0.4 * style.size, 0.75 * style.size, exponent);
}

std::string SvgCanvas::Document(double width, double height, absl::string_view title) const {
  return absl::StrFormat(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" "
      "font-family=\"Helvetica, Arial, sans-serif\">\n"
      "<title>%s</title>\n"
      "<rect x=\"0\" y=\"0\" width=\"%g\" height=\"%g\" fill=\"#ffffff\"/>\n%s</svg>\n",
      width, height, width, height, EscapeXml(title), width, height, body_);
}

std::string EscapeXml(absl::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    const absl::string_view rest = text;
    const uint32_t character = NextCharacter(text);
    if (character == '&') {
      escaped += "&amp;";
    } else if (character == '<') {
      escaped += "&lt;";
    } else if (character == '>') {
      escaped += "&gt;";
    } else if (character == '"') {
      escaped += "&quot;";
    } else if (character == '\'') {
      escaped += "&apos;";
    } else if (character == '\t' || character == '\n' || character == '\r') {
      escaped += ' ';
    } else if (character < 0x20 || character == 0xfffe || character == 0xffff) {
      escaped += kReplacement;
    } else {
      escaped.append(rest.data(), rest.size() - text.size());
    }
  }
  return escaped;
}

double SvgTextWidth(absl::string_view text, double size) {
  double width = 0;
  while (!text.empty()) width += CharacterWidth(NextCharacter(text), size);
  return width;
}

std::string CutToWidth(absl::string_view text, double size, double width) {
  if (SvgTextWidth(text, size) <= width) return std::string(text);
  double used = size;  // of the ellipsis
  absl::string_view rest = text;
  while (!rest.empty()) {
    absl::string_view next = rest;
    used += CharacterWidth(NextCharacter(next), size);
    if (used > width) break;
    rest = next;
  }
  return absl::StrCat(text.substr(0, text.size() - rest.size()), kEllipsis);
}

std::vector<std::string> WrapToWidth(absl::string_view text, double size, double width) {
  std::vector<std::string> lines;
  for (const absl::string_view word :
       absl::StrSplit(text, absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty())) {
    const std::string cut = CutToWidth(word, size, width);
    if (!lines.empty()) {
      const std::string longer = absl::StrCat(lines.back(), " ", cut);
      if (SvgTextWidth(longer, size) <= width) {
        lines.back() = longer;
        continue;
      }
    }
    lines.push_back(cut);
  }
  return lines;
}

}  // namespace moelight
