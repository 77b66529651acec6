// Machines for tests of the planner and the simulated backend: round figures of the right size.
#ifndef MOELIGHT_TESTS_TESTING_TEST_PROFILES_H_
#define MOELIGHT_TESTS_TESTING_TEST_PROFILES_H_

#include "engine/base/hardware_profile.h"

namespace moelight {

// One large GPU on a fast link: 55 GB/s, 4 TB/s of GPU memory, 140 GB/s of host memory.
HardwareProfile LargeGpuProfile();
// One small GPU on a slow link: 12 GB/s, 16 GB of 250 GB/s.
HardwareProfile SmallGpuProfile();
// No GPU.
HardwareProfile HostOnlyProfile();

}  // namespace moelight

#endif  // MOELIGHT_TESTS_TESTING_TEST_PROFILES_H_
