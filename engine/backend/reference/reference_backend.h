// The reference backend: every op as plain fp32 loops on one thread, the oracle of the op tests.
//
// f32 row-major weights, f32 activations, f32 KV cache. Written to be obviously right; its speed is
// that of the loops.
#ifndef MOELIGHT_ENGINE_BACKEND_REFERENCE_REFERENCE_BACKEND_H_
#define MOELIGHT_ENGINE_BACKEND_REFERENCE_REFERENCE_BACKEND_H_

#include <memory>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"

namespace moelight {

// InvalidArgument if an isa is asked for: there are no variants. Threads are ignored.
absl::StatusOr<std::unique_ptr<Backend>> CreateReferenceBackend(const BackendOptions& options);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_REFERENCE_REFERENCE_BACKEND_H_
