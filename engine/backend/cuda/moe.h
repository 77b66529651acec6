// CudaMoe: router and experts on the GPU.
//
// Expert weights are "bf16_tiled" and are read through WeightPages; expert row counts stay on the
// device, so that nothing here waits for the GPU. Activations are f32; the products of the experts
// take them rounded to bf16 and sum in f32, those of the router are f32 throughout.
//
// Threads: the one that issues ops. Borrows the scratch. Allocates nothing.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_MOE_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_MOE_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include <absl/status/status.h>

#include "engine/backend/ops.h"

namespace moelight {

class CudaMoe {
 public:
  // Device memory that both ops need for calls within `limits`.
  static int64_t ScratchBytes(const OpLimits& limits);

  // `scratch`: ScratchBytes(limits) of device memory, aligned to 256, which must outlive the ops.
  void Reserve(const OpLimits& limits, char* scratch);

  // Both only enqueue work on `stream`, always the same one because they share the scratch, for
  // arguments that passed the checks of op_checks.h. At most 512 experts and 16 per token. Experts
  // lie at a constant stride, or there are at most 192. Errors: Internal with the CUDA error of a
  // launch.
  absl::Status Router(const RouterArgs& args, cudaStream_t stream);
  absl::Status MoeFfn(const MoeFfnArgs& args, cudaStream_t stream);

 private:
  char* scratch_ = nullptr;
  int64_t scratch_bytes_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_MOE_H_
