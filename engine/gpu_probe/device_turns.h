// How long an op takes on a device: calls of it, one behind the other, in a task of the gpu lane.
//
// Threads: the caller's. Errors: what the device says.
#ifndef MOELIGHT_ENGINE_GPU_PROBE_DEVICE_TURNS_H_
#define MOELIGHT_ENGINE_GPU_PROBE_DEVICE_TURNS_H_

#include <functional>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/base/spread.h"

namespace moelight {

struct DeviceTurnSpec {
  int num_turns = 7;
  // Of calls before anything is measured: clocks that have rested take some tens of milliseconds.
  double warm_seconds = 0.1;
  // Of each turn, at least: a thousand times what the first launch and the last event cost.
  double turn_seconds = 0.01;
  // For all turns of one figure; three are taken even if they need longer.
  double max_seconds = 1;
};

// Of one call.
struct DeviceTimes {
  Spread device_seconds;  // from the begin to the end of the task, as the device tells
  Spread wall_seconds;    // from before the first was issued until the host knew of the last's end
};

// `issue` issues one call on `stream`, of the gpu lane. What a call borrows must live until this
// returns, which is not before all calls have ended.
absl::StatusOr<DeviceTimes> MeasureOnDevice(const DeviceTurnSpec& spec, Stream& stream,
                                            const std::function<absl::Status()>& issue);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_GPU_PROBE_DEVICE_TURNS_H_
