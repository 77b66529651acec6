#include "engine/base/spread.h"

#include <algorithm>

#include <absl/strings/str_format.h>

#include "engine/base/check.h"

namespace moelight {

Spread SpreadOf(std::vector<double> values) {
  CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

void WidestSpread::Add(absl::string_view figure, const Spread& spread) {
  if (!figure_.empty() && spread.relative() <= relative_) return;
  figure_ = std::string(figure);
  relative_ = spread.relative();
}

std::string WidestSpread::ToText() const {
  if (figure_.empty()) return "no turns";
  return absl::StrFormat("turns differ by up to %.1f %% (%s)", 100 * relative_, figure_);
}

}  // namespace moelight
