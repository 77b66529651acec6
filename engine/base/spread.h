// Spread: a figure that was measured in several turns. WidestSpread: how far the worst of many such
// figures can be trusted.
//
// Plain values; threads: none of its own.
#ifndef MOELIGHT_ENGINE_BASE_SPREAD_H_
#define MOELIGHT_ENGINE_BASE_SPREAD_H_

#include <string>
#include <vector>

#include <absl/strings/string_view.h>

namespace moelight {

struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;

  // How far the turns lie apart, of the median.
  double relative() const { return median > 0 ? (max - min) / median : 0; }
};

// `values` is not empty.
Spread SpreadOf(std::vector<double> values);

class WidestSpread {
 public:
  // `figure` says what was measured.
  void Add(absl::string_view figure, const Spread& spread);

  double relative() const { return relative_; }
  // "turns differ by up to 3.1 % (copies of 1 MiB)"; nothing was added: "no turns".
  std::string ToText() const;

 private:
  std::string figure_;
  double relative_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_SPREAD_H_
