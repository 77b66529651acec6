#include "engine/cpu_probe/turns.h"

#include <algorithm>

#include "engine/base/check.h"

namespace moelight {

Spread SpreadOf(std::vector<double> values) {
  CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

}  // namespace moelight
