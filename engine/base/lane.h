// Lane: a resource that runs one task at a time, in order. Plans, traces and metrics speak of
// lanes.
#ifndef MOELIGHT_ENGINE_BASE_LANE_H_
#define MOELIGHT_ENGINE_BASE_LANE_H_

#include <array>
#include <cstdint>

#include <absl/strings/string_view.h>

namespace moelight {

enum class Lane : uint8_t {
  kGpu,  // compute on the device that holds the dense weights (the CPU itself without a GPU)
  kCpu,  // attention workers on the host
  kHostToDevice,  // copies towards the device
  kDeviceToHost,  // copies back
};
inline constexpr int kNumLanes = 4;
inline constexpr std::array<Lane, kNumLanes> kAllLanes = {Lane::kGpu, Lane::kCpu,
                                                          Lane::kHostToDevice, Lane::kDeviceToHost};

// "gpu", "cpu", "h2d", "d2h": the values of the metrics' lane label.
constexpr absl::string_view LaneName(Lane lane) {
  constexpr std::array<absl::string_view, kNumLanes> kNames = {"gpu", "cpu", "h2d", "d2h"};
  return kNames[static_cast<int>(lane)];
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_LANE_H_
