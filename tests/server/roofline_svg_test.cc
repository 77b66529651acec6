// Goal: the picture is well-formed whatever the names are, everything lies within it, and labels do
// not cover each other.
#include "server/roofline_svg.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/label_layout.h"
#include "server/svg_canvas.h"

namespace moelight {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

RooflineChart MixtralOnAnH200() {
  return {"Mixtral-8x7B on 1x H200, mtbench",
          {{"GPU from its memory", 4.29e12, 760e12},
           {"GPU over the link", 54.6e9, 760e12},
           {"CPU from its memory", 135e9, 38e12}},
          {{"decode attention on the CPU", 4, 404e9},
           {"decode attention on the GPU over the link", 4, 218e9},
           {"experts on the GPU, weights over the link", 336, 18.3e12},
           {"experts on the CPU", 336, 5.64e12},
           {"projections on the GPU", 1344, 740e12}},
          {{"P1", "below it attention is faster where the KV cache lies", 7.4, 404e9},
           {"P2", "below it the link binds, not the GPU's memory", 13919, 760e12},
           {"balance", "beyond it a larger batch does not help", 10500, 573e12}}};
}

// What is wrong with the document; empty: nothing. A small part of XML is enough: tags, attributes
// in double quotes, the five entities.
std::string FindXmlError(absl::string_view text) {
  const absl::string_view declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
  if (!absl::StartsWith(text, declaration)) return "no declaration";
  text.remove_prefix(declaration.size());
  std::vector<std::string> open;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = text.find('<', i);
    const absl::string_view content = text.substr(i, begin - i);
    if (absl::StrContains(content, ">")) return absl::StrCat("> in ", std::string(content));
    for (size_t j = content.find('&'); j != absl::string_view::npos; j = content.find('&', j + 1)) {
      bool is_known = false;
      for (const char* entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"}) {
        is_known = is_known || absl::StartsWith(content.substr(j), entity);
      }
      if (!is_known) return absl::StrCat("bare & in ", std::string(content));
    }
    if (begin == absl::string_view::npos) break;
    const size_t end = text.find('>', begin);
    if (end == absl::string_view::npos) return "unfinished tag";
    const std::string tag(text.substr(begin + 1, end - begin - 1));
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return absl::StrCat("quotes in ", tag);
    if (tag[0] == '/') {
      if (open.empty() || absl::StrCat("/", open.back()) != tag) return absl::StrCat("<", tag, ">");
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    i = end + 1;
  }
  return open.empty() ? "" : absl::StrCat(open.back(), " stays open");
}

// Values of all attributes of the name, split into numbers.
std::vector<double> Attributes(const std::string& svg, const std::string& name) {
  std::vector<double> values;
  const std::string begin = absl::StrCat(" ", name, "=\"");
  for (size_t i = svg.find(begin); i != std::string::npos; i = svg.find(begin, i + 1)) {
    const size_t first = i + begin.size();
    const std::string list = svg.substr(first, svg.find('"', first) - first);
    for (const absl::string_view part : absl::StrSplit(list, absl::ByAnyChar(" ,"))) {
      values.push_back(std::nan(""));
      EXPECT_TRUE(absl::SimpleAtod(part, &values.back())) << list;
    }
  }
  return values;
}

void ExpectSoundPicture(const std::string& svg) {
  EXPECT_EQ(FindXmlError(svg), "");
  const std::vector<double> box = Attributes(svg, "viewBox");
  ASSERT_EQ(box.size(), 4);
  const auto expect_within = [&](const std::string& attribute, double limit) {
    for (const double value : Attributes(svg, attribute)) {
      EXPECT_TRUE(value >= 0 && value <= limit) << attribute << " " << value;
    }
  };
  for (const char* attribute : {"x", "x1", "x2", "cx"}) expect_within(attribute, box[2]);
  for (const char* attribute : {"y", "y1", "y2", "cy"}) expect_within(attribute, box[3]);
  const std::vector<double> points = Attributes(svg, "points");
  for (size_t i = 0; i < points.size(); ++i) {
    EXPECT_TRUE(points[i] >= 0 && points[i] <= box[2 + i % 2]) << points[i];
  }
  EXPECT_THAT(svg, Not(HasSubstr("<script")));
  EXPECT_THAT(svg, Not(HasSubstr("href")));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(RooflineSvgTest, ShowsEverythingThatTheChartNames) {
  const RooflineChart chart = MixtralOnAnH200();
  const std::string svg = RooflineSvg(chart);
  ExpectSoundPicture(svg);
  EXPECT_THAT(svg, HasSubstr(absl::StrCat(">", chart.title, "</text>")));
  for (const auto& roof : chart.roofs) {
    EXPECT_THAT(svg, HasSubstr(absl::StrCat(">", roof.name, "</text>")));  // along the line
    EXPECT_THAT(svg, HasSubstr(absl::StrCat(">", roof.name, ": ")));       // in the legend
  }
  for (const auto& point : chart.points) {
    EXPECT_THAT(svg, HasSubstr(absl::StrCat(">", point.name, "</text>")));
  }
  for (const auto& turn : chart.turns) {
    EXPECT_THAT(svg, HasSubstr(absl::StrCat(">", turn.name, "</text>")));
    EXPECT_THAT(svg, HasSubstr(EscapeXml(turn.meaning)));
  }
  EXPECT_THAT(svg, HasSubstr("4.29 TB/s, at most 760 TFLOP/s"));
  EXPECT_THAT(svg, HasSubstr(">100 GFLOP/s<"));
  EXPECT_THAT(svg, HasSubstr("FLOP per byte"));
}

TEST(RooflineSvgTest, TheSameChartGivesTheSameText) {
  EXPECT_EQ(RooflineSvg(MixtralOnAnH200()), RooflineSvg(MixtralOnAnH200()));
}

TEST(RooflineSvgTest, NamesCannotBreakTheDocument) {
  RooflineChart chart = MixtralOnAnH200();
  const std::string nasty = "</text><script>alert(\"1\")</script> & 'x' \x01\xff\xc3";
  chart.title = nasty;
  chart.roofs[0].name = nasty;
  chart.points[0].name = nasty;
  chart.turns[0].name = nasty;
  chart.turns[0].meaning = nasty;
  const std::string svg = RooflineSvg(chart);
  ExpectSoundPicture(svg);
  EXPECT_THAT(svg, HasSubstr("&lt;script&gt;"));
}

TEST(RooflineSvgTest, LongNamesAreCutOrWrapped) {
  RooflineChart chart = MixtralOnAnH200();
  std::string words;
  for (int i = 0; i < 200; ++i) absl::StrAppend(&words, "many ");
  for (const std::string& name : {std::string(2000, 'x'), words}) {
    chart.title = chart.roofs[0].name = chart.points[0].name = name;
    chart.turns[0].name = chart.turns[0].meaning = name;
    ExpectSoundPicture(RooflineSvg(chart));
  }
}

TEST(RooflineSvgTest, DegenerateChartsAreDrawn) {
  const RooflineChart::Roof roof = {"roof", 1e9, 1e12};
  const std::pair<const char*, RooflineChart> rows[] = {
      {"empty", {}},
      {"one roof", {"", {roof}, {}, {}}},
      {"one point", {"", {}, {{"point", 1, 1}}, {}}},
      {"one turn", {"", {}, {}, {{"P1", "", 1, 1}}}},
      {"roofs that cannot be",
       {"",
        {roof,
         {"a", 0, 1},
         {"b", 1, 0},
         {"c", kInfinity, 1},
         {"d", 1, kInfinity},
         {"e", -1, -1},
         {"f", std::nan(""), 1}},
        {},
        {}}},
      {"points that cannot be",
       {"",
        {roof},
        {{"a", 0, 1},
         {"b", 1, 0},
         {"c", kInfinity, 1},
         {"d", -1, 1},
         {"e", std::nan(""), std::nan("")}},
        {{"P1", "x", 0, 0}}}},
      {"far apart", {"", {{"low", 1e-3, 1e-3}, {"high", 1e20, 1e22}}, {{"far", 1e-8, 1e26}}, {}}},
      {"same place",
       {"",
        {roof, roof},
        {{"a", 1e3, 1e12}, {"a", 1e3, 1e12}},
        {{"P1", "x", 1e3, 1e12}, {"P1", "x", 1e3, 1e12}}}},
  };
  for (const auto& [name, chart] : rows) {
    SCOPED_TRACE(name);
    ExpectSoundPicture(RooflineSvg(chart));
  }
  EXPECT_THAT(RooflineSvg({}), HasSubstr(">nothing to draw<"));
}

TEST(RooflineSvgTest, ManyPointsAreDrawn) {
  RooflineChart chart = MixtralOnAnH200();
  for (int i = 0; i < 500; ++i) {
    chart.points.push_back({absl::StrCat("point ", i), 1.0 + i % 7, 1e9 * (1 + i % 11)});
  }
  ExpectSoundPicture(RooflineSvg(chart));
}

TEST(LabelLayoutTest, LabelsDoNotCoverEachOther) {
  LabelLayout layout({0, 0, 600, 400});
  std::vector<LabelBox> labels;
  for (int i = 0; i < 16; ++i) {
    labels.push_back(layout.PlaceBeside({300.0 + i, 200.0}, 120, 15));
    EXPECT_GE(labels.back().left, 0);
    EXPECT_LE(labels.back().right, 600);
    for (int j = 0; j < i; ++j) EXPECT_FALSE(labels[i].Overlaps(labels[j])) << i << " " << j;
  }
  EXPECT_EQ(labels[0].left, 308);  // nothing in the way: to the right
}

TEST(LabelLayoutTest, CornersAndLinesAreAvoided) {
  LabelLayout layout({0, 0, 600, 400});
  EXPECT_LT(layout.PlaceBeside({598, 398}, 100, 15).right, 598);
  layout.BlockLine({200, 100}, {600, 100});
  const LabelBox label = layout.PlaceBeside({300, 100}, 100, 15);
  EXPECT_TRUE(label.bottom < 100 || label.top > 100);
  const LabelBox huge = layout.PlaceBeside({300, 100}, 1000, 15);
  EXPECT_EQ(huge.left, 0);
  EXPECT_FALSE(layout.IsFree(huge));
}

TEST(SvgTextTest, TextIsEscaped) {
  const std::pair<std::string, std::string> rows[] = {
      {"plain", "plain"},
      {"a<b> & \"c\" 'd'", "a&lt;b&gt; &amp; &quot;c&quot; &apos;d&apos;"},
      {"tab\tline\n", "tab line "},
      {std::string("\0\x1f", 2), "\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xc2\xb5s \xe2\x82\xac \xf0\x9f\x98\x80", "\xc2\xb5s \xe2\x82\xac \xf0\x9f\x98\x80"},
      {"\xc3", "\xef\xbf\xbd"},                                  // unfinished
      {"\xff", "\xef\xbf\xbd"},                                  // no such byte
      {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                  // overlong
      {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},  // surrogate
      {"\xef\xbf\xbf", "\xef\xbf\xbd"},                          // not a character
  };
  for (const auto& [text, escaped] : rows) EXPECT_EQ(EscapeXml(text), escaped);
}

TEST(SvgTextTest, TextIsCutAndWrapped) {
  EXPECT_EQ(CutToWidth("short", 12, 100), "short");
  const std::string cut = CutToWidth(std::string(100, 'a'), 12, 100);
  EXPECT_LE(SvgTextWidth(cut, 12), 100);
  EXPECT_TRUE(absl::EndsWith(cut, "\xe2\x80\xa6"));
  // Not within a character.
  EXPECT_EQ(CutToWidth("\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2", 10, 25), "\xe6\xbc\xa2\xe2\x80\xa6");
  EXPECT_THAT(WrapToWidth("aaaa bbbb  cccc", 10, 55), ElementsAre("aaaa bbbb", "cccc"));
  EXPECT_THAT(WrapToWidth(" ", 10, 50), IsEmpty());
}

}  // namespace
}  // namespace moelight
