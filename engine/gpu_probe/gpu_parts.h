// The parts of the GPU probe, each of one op. They add what they find to the profile.
#ifndef MOELIGHT_ENGINE_GPU_PROBE_GPU_PARTS_H_
#define MOELIGHT_ENGINE_GPU_PROBE_GPU_PARTS_H_

#include <algorithm>
#include <cstdint>

#include <absl/status/status.h>

#include "engine/backend/backend.h"
#include "engine/base/hardware_profile.h"
#include "engine/base/spread.h"
#include "engine/gpu_probe/device_data.h"
#include "engine/gpu_probe/gpu_probe.h"

namespace moelight {

struct GpuProbe {
  Backend& backend;
  const GpuProbeSpec& spec;
  const int64_t memory_bytes;  // that one part may take
  DeviceData& data;
  Stream& stream;  // of the gpu lane
  GpuProfile profile = {};

  int64_t act_bytes() const { return DTypeBytes(backend.activation_dtype()); }
  // A kernel that read weights at this rate. The profile keeps the best: no kernel reads faster
  // than memory gives, and those with the fewest rows do little else.
  void SawReads(double bytes_per_s) {
    profile.memory_bytes_per_s = std::max(profile.memory_bytes_per_s, bytes_per_s);
  }
};

// The least that every backend takes, for ops that the limits are not about.
OpLimits LeastLimits();

absl::Status MeasureMatMuls(GpuProbe& probe, WidestSpread& widest);
// Of one layer. Does nothing if not even as many experts fit as a token needs.
absl::Status MeasureExpertLayer(const ExpertLayerSize& size, GpuProbe& probe, WidestSpread& widest);
absl::Status MeasurePrompts(GpuProbe& probe, WidestSpread& widest);
absl::Status MeasureLaunches(GpuProbe& probe, WidestSpread& widest);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_GPU_PROBE_GPU_PARTS_H_
