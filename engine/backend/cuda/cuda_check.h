// CudaStatus: errors of the CUDA runtime as absl::Status.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_CHECK_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_CHECK_H_

#include <cuda_runtime_api.h>

#include <string>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

namespace moelight {

// "cudaErrorMemoryAllocation: out of memory"
inline std::string CudaErrorText(cudaError_t error) {
  return absl::StrCat(cudaGetErrorName(error), ": ", cudaGetErrorString(error));
}

// Internal("<what>: <name>: <description>") unless `error` is cudaSuccess.
inline absl::Status CudaStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", CudaErrorText(error)));
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_CHECK_H_
