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
#include "engine/engine.h"

namespace moelight {

// Rates by size of copy, each the median of 5 turns. Takes `region_bytes` twice on both sides: one
// for each direction. Sizes of copies that are larger than a region are left out.
absl::StatusOr<LinkRates> MeasureLink(Backend& backend, int64_t region_bytes);

// Bytes per second of host-to-device copies of `page_bytes` each, the best of 3 turns of at most
// 256 MiB. Takes a fraction of a second, most of it to pin 256 MiB.
absl::StatusOr<double> ProbeHostToDevice(Backend& backend, int64_t page_bytes);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_LINK_PROBE_H_
