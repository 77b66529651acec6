// The CUDA backend: one NVIDIA GPU of compute capability 7.5 or more.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_BACKEND_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_BACKEND_H_

#include <memory>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"

namespace moelight {

// A backend on device 0 (the environment's CUDA_VISIBLE_DEVICES says which GPU that is).
// `options.num_threads` means nothing here. InvalidArgument if `options.isa` is set;
// FailedPrecondition with the reason if there is no GPU, driver or cuBLAS that can run it.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const BackendOptions& options);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_BACKEND_H_
