// AcceleratorDouble: a backend that behaves as one with a device of its own, on the CPU alone. Ops
// are only queued, each lane runs on a thread, and edges between lanes are real waits, so that a
// missing edge is a race: ThreadSanitizer sees it, and results come out wrong.
//
// Ops are done by the `reference` backend, on the gpu lane's thread.
#ifndef MOELIGHT_TESTS_TESTING_ACCELERATOR_DOUBLE_H_
#define MOELIGHT_TESTS_TESTING_ACCELERATOR_DOUBLE_H_

#include <memory>

#include "engine/backend/backend.h"

namespace moelight {

// Without `can_pin`, PinHost() fails, as it does under a low memlock limit.
std::unique_ptr<Backend> MakeAcceleratorDouble(bool can_pin = true);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_TESTING_ACCELERATOR_DOUBLE_H_
