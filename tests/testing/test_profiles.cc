#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

constexpr double kGiga = 1e9;
constexpr double kTera = 1e12;
constexpr int64_t kGiB = int64_t{1} << 30;

// Rates that grow with the size until `peak`.
RateCurve Growing(double slope, double peak) {
  RateCurve curve;
  for (double size = 1; size <= 4096; size *= 4) {
    curve.points.push_back({size, slope * size < peak ? slope * size : peak});
  }
  return curve;
}

RateCurve Link(double rate) {
  return {
      {{262144, 0.65 * rate}, {1048576, 0.88 * rate}, {16777216, 0.98 * rate}, {1073741824, rate}}};
}

}  // namespace

HardwareProfile HostOnlyProfile() {
  HardwareProfile profile;
  profile.name = "a host";
  profile.source = "made up for tests";
  HostProfile& host = profile.host;
  host.name = "16 cores";
  host.num_threads = 15;
  host.memory_bytes = 120 * kGiB;
  host.read_bytes_per_s = 140 * kGiga;
  host.shared_bytes_per_s = 130 * kGiga;
  host.peak_flops_per_s = 20 * kTera;
  for (const char* format : {"bf16", "int8"}) {
    for (const int32_t group_size : {1, 4, 8}) {
      host.attention.push_back({format, group_size, {{{128, 78 * kGiga}, {4096, 100 * kGiga}}}});
    }
  }
  host.experts.push_back({4096, 14336, Growing(0.11 * kTera, 6 * kTera)});
  host.experts.push_back({2048, 768, Growing(0.09 * kTera, 5 * kTera)});
  host.sample_bytes_per_s = 8 * kGiga;
  return profile;
}

HardwareProfile LargeGpuProfile() {
  HardwareProfile profile = HostOnlyProfile();
  profile.name = "a large GPU";
  GpuProfile& gpu = profile.gpu;
  gpu.name = "large";
  gpu.count = 1;
  gpu.memory_bytes = 130 * kGiB;
  gpu.memory_bytes_per_s = 4000 * kGiga;
  gpu.launch_us = 5;
  gpu.matmul_flops_per_s = Growing(4 * kTera, 600 * kTera);
  gpu.experts.push_back({4096, 14336, Growing(4 * kTera, 400 * kTera)});
  gpu.experts.push_back({2048, 768, Growing(3 * kTera, 250 * kTera)});
  gpu.attention_flops_per_s = 100 * kTera;
  profile.link = {Link(55 * kGiga), Link(54 * kGiga), 100 * kGiga, 7};
  profile.power = {300, 300, 150, 30};
  return profile;
}

HardwareProfile SmallGpuProfile() {
  HardwareProfile profile = LargeGpuProfile();
  profile.name = "a small GPU";
  profile.host.memory_bytes = 188 * kGiB;
  profile.gpu.name = "small";
  profile.gpu.memory_bytes = 15 * kGiB;
  profile.gpu.memory_bytes_per_s = 250 * kGiga;
  profile.gpu.matmul_flops_per_s = Growing(0.25 * kTera, 30 * kTera);
  for (ExpertRateCurve& curve : profile.gpu.experts) {
    curve.flops_per_s = Growing(0.25 * kTera, 25 * kTera);
  }
  profile.gpu.attention_flops_per_s = 8 * kTera;
  profile.link = {Link(12.5 * kGiga), Link(12.5 * kGiga), 22 * kGiga, 10};
  return profile;
}

}  // namespace moelight
