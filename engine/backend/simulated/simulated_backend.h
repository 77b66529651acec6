// The simulated backend: a machine that is not here, on a virtual clock.
//
// Its ops compute nothing and touch no memory. They let the clock of their stream go on by what the
// op would take on the machine of a HardwareProfile (op_costs.h); edges between lanes hold in
// virtual time as they do on a device. So the executor, the schedules, the scheduler and the
// forward pass run as they are, a step in a millisecond or so, with the same result every time.
//
// It is not in the table of backends.cc: it needs a profile, and what it generates is no text.
//
// Threads: as Backend; the machine's parts share one clock and belong to one thread.
// Allocates: device memory is address space only, never touched, whatever its size.
#ifndef MOELIGHT_ENGINE_BACKEND_SIMULATED_SIMULATED_BACKEND_H_
#define MOELIGHT_ENGINE_BACKEND_SIMULATED_SIMULATED_BACKEND_H_

#include <memory>

#include "engine/backend/backend.h"
#include "engine/base/hardware_profile.h"

namespace moelight {

class VirtualClock;

struct SimulatedMachine {
  std::shared_ptr<VirtualClock> clock;  // virtual_clock.h
  std::unique_ptr<Backend> device;      // the GPU, or the host if there is none
  std::unique_ptr<Backend> host;        // attends beside a GPU; null if there is none
};

// `kv_dtype`: of the cache in the host's memory.
SimulatedMachine CreateSimulatedMachine(const HardwareProfile& profile,
                                        DType kv_dtype = DType::kBF16);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_SIMULATED_SIMULATED_BACKEND_H_
