// The cpu backend: vectorized kernels on a oneTBB arena, fp32 activations, bf16 weights, embeddings
// and KV cache. Router weights, norms and all sums are fp32.
//
// `isa` is a row of CpuIsas(). Results of one row are the same for every number of threads; rows
// differ from each other within rounding.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_CPU_BACKEND_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_CPU_BACKEND_H_

#include <memory>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"

namespace moelight {

// Errors: those of ChooseCpuIsa(). REQUIRES: options.num_threads >= 1.
absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const BackendOptions& options);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_CPU_BACKEND_H_
