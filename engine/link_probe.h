// Link probe: what the link between host and device really gives, measured with the copies that the
// engine uses. Engine::ProbeLink() is implemented here too.
//
// Threads: the caller's; nothing else may use the backend meanwhile. Allocates pinned host memory
// and device memory for its own time. Wall clock of the host around whole batches of copies, so the
// cost of issuing them is part of the rate.
// Errors: ResourceExhausted for memory, what the device says otherwise.
#ifndef MOELIGHT_ENGINE_LINK_PROBE_H_
#define MOELIGHT_ENGINE_LINK_PROBE_H_

#include <cstdint>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/base/spread.h"
#include "engine/engine.h"

namespace moelight {

struct LinkProbeSpec {
  // Taken twice on both sides, once for each direction. Larger copies are left out. 0: what leaves
  // the device half empty, at most 1 GiB.
  int64_t region_bytes = 0;
  int64_t gpu_memory_bytes = 0;  // that the probe may take for its choice of a region; 0: all
  // Copies in both directions before anything is measured. A link that was idle has let its clock
  // and its lanes go to sleep and takes some tenths of a second to come back.
  double warm_seconds = 0.3;
  // At least, of each turn: engines copy without a pause, so starting and waiting must not count.
  double turn_seconds = 0.05;
};

// Rates by size of copy, each the median of 5 turns. `widest` may be null.
absl::StatusOr<LinkRates> MeasureLink(Backend& backend, const LinkProbeSpec& spec,
                                      WidestSpread* widest);

// Seconds from issuing one copy of 4 KiB to the device until the host knows of its end: what a copy
// costs besides its bytes.
absl::StatusOr<Spread> MeasureCopyLatency(Backend& backend);

// Bytes per second of host-to-device copies of `page_bytes` each, the best of 3 turns of at most
// 256 MiB. Takes a fraction of a second, most of it to pin 256 MiB.
absl::StatusOr<double> ProbeHostToDevice(Backend& backend, int64_t page_bytes);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_LINK_PROBE_H_
