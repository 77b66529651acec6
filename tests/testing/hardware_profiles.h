// Hardware profiles for tests: valid ones, in which every field has a value of its own.
#ifndef MOELIGHT_TESTS_TESTING_HARDWARE_PROFILES_H_
#define MOELIGHT_TESTS_TESTING_HARDWARE_PROFILES_H_

#include "engine/base/hardware_profile.h"

namespace moelight {

HardwareProfile ProfileWithGpu();
HardwareProfile ProfileWithoutGpu();  // no gpu, link and power; the rest is the same

}  // namespace moelight

#endif  // MOELIGHT_TESTS_TESTING_HARDWARE_PROFILES_H_
