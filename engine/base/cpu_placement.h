// The CPUs that the process may run on, and which of them its compute threads keep to.
//
// Threads: none of its own; pure functions but for what they ask the system.
#ifndef MOELIGHT_ENGINE_BASE_CPU_PLACEMENT_H_
#define MOELIGHT_ENGINE_BASE_CPU_PLACEMENT_H_

#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace moelight {

struct AllowedCpu {
  int cpu = 0;   // as the system numbers them
  int core = 0;  // the lowest number among the CPUs that share its physical core
};

// Those that the calling thread may run on, ascending. Unavailable if the system does not say.
absl::StatusOr<std::vector<AllowedCpu>> AllowedCpus();

// A CPU for each of `num_workers`: first one of every physical core, then their siblings. Where one
// is left over, it is the first allowed one, for the threads that launch work and serve RPCs.
// Empty if there are more workers than CPUs: some would have to share.
std::vector<int> PlaceWorkers(const std::vector<AllowedCpu>& allowed, int num_workers);

// OK if `num_workers` threads can be bound to CPUs of their own, found out by binding the calling
// thread and letting it go again; else why not.
absl::Status CheckCanPin(int num_workers);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_CPU_PLACEMENT_H_
