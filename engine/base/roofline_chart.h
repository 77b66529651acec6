// RooflineChart: the hierarchical roofline of a machine with the points of one workload, ready to
// be drawn: operational intensity against attained operations per second, both axes logarithmic.
//
// Part of what the server sees. Plain values.
#ifndef MOELIGHT_ENGINE_BASE_ROOFLINE_CHART_H_
#define MOELIGHT_ENGINE_BASE_ROOFLINE_CHART_H_

#include <string>
#include <vector>

namespace moelight {

struct RooflineChart {
  // min(peak_flops_per_s, bytes_per_s * intensity): a processor fed from one memory.
  struct Roof {
    std::string name;  // "GPU from its memory", "GPU over the link", "CPU from its memory"
    double bytes_per_s = 0;
    double peak_flops_per_s = 0;
  };
  // A task of the workload under the policy.
  struct Point {
    std::string name;  // "decode attention on the CPU"
    double flop_per_byte = 0;
    double flops_per_s = 0;  // attained
  };
  // Where the best choice changes (MoE-Lightning equations 9 to 11).
  struct Turn {
    std::string name;  // "P1", "P2", "balance"
    std::string meaning;
    double flop_per_byte = 0;
    double flops_per_s = 0;
  };
  std::string title;
  std::vector<Roof> roofs;
  std::vector<Point> points;
  std::vector<Turn> turns;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_ROOFLINE_CHART_H_
