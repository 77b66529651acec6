#include "engine/planner/roofline.h"

#include <algorithm>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

namespace moelight {
namespace {

constexpr double kUsPerSecond = 1e6;

double BusySeconds(const StepPrediction& step, Lane lane) {
  return step.busy_us[static_cast<int>(lane)] / kUsPerSecond;
}

void AddPoint(const std::string& name, double flops, double bytes, double seconds,
              RooflineChart* chart) {
  if (flops <= 0 || bytes <= 0 || seconds <= 0) return;
  chart->points.push_back({name, flops / bytes, flops / seconds});
}

void AddTurns(const RooflineLevels& levels, double gpu_intensity, RooflineChart* chart) {
  const double p1 = TurningPoint1(levels);
  if (p1 > 0) {
    chart->turns.push_back({"P1",
                            "left of it the host computes faster on its own data than the GPU over "
                            "the link",
                            p1, AttainableOnHost(levels, p1)});
  }
  if (gpu_intensity <= 0) return;
  const double p2 = TurningPoint2(levels, gpu_intensity);
  chart->turns.push_back({"P2", "left of it the link binds the GPU, right of it the GPU itself", p2,
                          p2 * levels.link_bytes_per_s});
  const double balanced = BalancedMicroBatches(levels);
  const double balance = balanced * gpu_intensity;
  chart->turns.push_back(
      {"balance",
       absl::StrFormat(
           "experts read from GPU memory for each of %.0f micro-batches take as long as "
           "over the link",
           balanced),
       balance, std::min(levels.gpu_flops_per_s, balance * levels.link_bytes_per_s)});
}

}  // namespace

RooflineLevels LevelsOf(const HardwareProfile& profile) {
  const HardwareProfile one = AsOneDevice(profile);
  double gpu_flops = one.gpu.matmul_flops_per_s.Peak();
  for (const ExpertRateCurve& curve : one.gpu.experts) {
    gpu_flops = std::max(gpu_flops, curve.flops_per_s.Peak());
  }
  return {gpu_flops, one.gpu.memory_bytes_per_s, one.host.peak_flops_per_s,
          one.host.read_bytes_per_s, one.link.h2d_bytes_per_s.Peak()};
}

double AttainableOnHost(const RooflineLevels& levels, double host_intensity) {
  return std::min(levels.host_flops_per_s, levels.host_bytes_per_s * host_intensity);
}

double AttainableOnGpu(const RooflineLevels& levels, double gpu_intensity, double host_intensity) {
  return std::min({levels.gpu_flops_per_s, levels.gpu_bytes_per_s * gpu_intensity,
                   levels.link_bytes_per_s * host_intensity});
}

double TurningPoint1(const RooflineLevels& levels) {
  if (levels.link_bytes_per_s <= 0 || levels.link_bytes_per_s >= levels.host_bytes_per_s) return 0;
  // Below P_j / B_j the host's memory is the faster one; from there on its roof is flat, and the
  // link's reaches it here.
  return levels.host_flops_per_s / levels.link_bytes_per_s;
}

double TurningPoint2(const RooflineLevels& levels, double gpu_intensity) {
  return std::min(levels.gpu_flops_per_s, levels.gpu_bytes_per_s * gpu_intensity) /
         levels.link_bytes_per_s;
}

double BalancedMicroBatches(const RooflineLevels& levels) {
  return levels.gpu_bytes_per_s / levels.link_bytes_per_s;
}

RooflineChart MakeRooflineChart(const HardwareProfile& profile, const StepPrediction& step,
                                double num_micro_batches) {
  const RooflineLevels levels = LevelsOf(profile);
  RooflineChart chart;
  chart.title = profile.name;
  chart.roofs.push_back(
      {"host, from its memory", levels.host_bytes_per_s, levels.host_flops_per_s});
  AddPoint(profile.has_gpu() ? "attention on the host" : "attention", step.cpu_flops,
           step.cpu_bytes, BusySeconds(step, Lane::kCpu), &chart);
  if (!profile.has_gpu()) {
    AddPoint("products", step.gpu_flops, step.gpu_bytes, BusySeconds(step, Lane::kGpu), &chart);
    return chart;
  }
  chart.roofs.push_back({"GPU, from its memory", levels.gpu_bytes_per_s, levels.gpu_flops_per_s});
  chart.roofs.push_back({"GPU, over the link", levels.link_bytes_per_s, levels.gpu_flops_per_s});
  const double step_seconds = step.step_us / kUsPerSecond;
  AddPoint(absl::StrCat("layers on the GPU, ", num_micro_batches, " micro-batch",
                        num_micro_batches == 1 ? "" : "es"),
           step.gpu_flops, step.gpu_bytes, BusySeconds(step, Lane::kGpu), &chart);
  AddPoint("whole step, per byte over the link", step.gpu_flops, step.h2d_bytes, step_seconds,
           &chart);
  AddTurns(levels, step.gpu_bytes > 0 ? step.gpu_flops / step.gpu_bytes : 0, &chart);
  return chart;
}

}  // namespace moelight
