// RooflineSvg: a RooflineChart as a picture.
#ifndef MOELIGHT_SERVER_ROOFLINE_SVG_H_
#define MOELIGHT_SERVER_ROOFLINE_SVG_H_

#include <string>

#include "engine/base/roofline_chart.h"

namespace moelight {

// SVG that stands alone, on white, both axes logarithmic. What has no place on such axes (not
// positive, not finite) is left out; an empty chart gives empty axes. The same chart gives the same
// text.
std::string RooflineSvg(const RooflineChart& chart);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_ROOFLINE_SVG_H_
