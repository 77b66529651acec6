// The hierarchical roofline model's picture of a machine and a workload (MoE-Lightning section 3).
//
// Level i is the GPU with its memory, j the host with its memory, B_ji the link. A task with
// operational intensities I_i and I_j (operations per byte of each memory) attains at most
//   min(P_j, B_j * I_j)               on the host                         (equation 5)
//   min(P_i, B_i * I_i, B_ji * I_j)   on the GPU with data of the host    (equation 8)
// Pure; thread-safe.
#ifndef MOELIGHT_ENGINE_PLANNER_ROOFLINE_H_
#define MOELIGHT_ENGINE_PLANNER_ROOFLINE_H_

#include "engine/base/hardware_profile.h"
#include "engine/base/roofline_chart.h"
#include "engine/planner/step_predictor.h"

namespace moelight {

struct RooflineLevels {
  double gpu_flops_per_s = 0;   // P_i
  double gpu_bytes_per_s = 0;   // B_i
  double host_flops_per_s = 0;  // P_j
  double host_bytes_per_s = 0;  // B_j
  double link_bytes_per_s = 0;  // B_ji
};
RooflineLevels LevelsOf(const HardwareProfile& profile);

double AttainableOnHost(const RooflineLevels& levels, double host_intensity);
double AttainableOnGpu(const RooflineLevels& levels, double gpu_intensity, double host_intensity);

// P1 (equation 9): below this intensity a task is better computed where its data lies. 0: at any
// intensity better on the GPU, because the link is as fast as the host's memory.
double TurningPoint1(const RooflineLevels& levels);
// P2 (equation 10): below this intensity over the link, the link binds a task with `gpu_intensity`.
double TurningPoint2(const RooflineLevels& levels, double gpu_intensity);
// Balance (equation 11): how often the GPU can read weights from its own memory, once per
// micro-batch, in the time that they take over the link.
double BalancedMicroBatches(const RooflineLevels& levels);

// `step`: a decode step of `num_micro_batches`; without a GPU only the host's roof is drawn.
RooflineChart MakeRooflineChart(const HardwareProfile& profile, const StepPrediction& step,
                                double num_micro_batches);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PLANNER_ROOFLINE_H_
