#include "tests/testing/hardware_profiles.h"

namespace moelight {

HardwareProfile ProfileWithoutGpu() {
  HardwareProfile profile;
  profile.name = "small box";
  profile.source = "made up";
  profile.fingerprint = "0123abcd";
  profile.host.name = "4 cores of something";
  profile.host.num_threads = 3;
  profile.host.memory_bytes = 8LL << 30;
  profile.host.pinnable_bytes = 6LL << 30;
  profile.host.read_bytes_per_s = 40e9;
  profile.host.read_bytes_per_s_by_threads.points = {{1, 15e9}, {3, 40e9}};
  profile.host.shared_bytes_per_s = 45e9;
  profile.host.peak_flops_per_s = 1.25e12;
  profile.host.attention = {{"bf16", 4, {{{128, 20e9}, {4096, 31.4159e9}}}},
                            {"int8", 8, {{{512, 17e9}}}}};
  profile.host.experts = {{4096, 14336, {{{1, 20e9}, {512, 0.7e12}}}},
                          {2048, 768, {{{1, 21e9}, {512, 0.6e12}}}}};
  profile.host.sample_bytes_per_s = 9e9;
  return profile;
}

HardwareProfile ProfileWithGpu() {
  HardwareProfile profile = ProfileWithoutGpu();
  profile.gpu.name = "a GPU";
  profile.gpu.count = 2;
  profile.gpu.memory_bytes = 16LL << 30;
  profile.gpu.memory_bytes_per_s = 250e9;
  profile.gpu.launch_us = 4.5;
  profile.gpu.matmul_flops_per_s.points = {{1, 0.25e12}, {1024, 30e12}};
  profile.gpu.experts = {{4096, 14336, {{{1, 0.24e12}, {256, 28e12}}}}};
  profile.gpu.attention_flops_per_s = 10e12;
  profile.link.h2d_bytes_per_s.points = {{256 << 10, 9e9}, {16 << 20, 12.5e9}};
  profile.link.d2h_bytes_per_s.points = {{1 << 20, 11e9}, {1 << 30, 12.8e9}};
  profile.link.both_bytes_per_s = 22e9;
  profile.link.latency_us = 8;
  profile.power = {100, 60, 90, 5};
  return profile;
}

}  // namespace moelight
