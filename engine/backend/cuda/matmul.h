// Cublas: products of dense weights by cuBLAS, which is loaded when a GPU backend is made.
//
// Not linked, because its libraries are half a gigabyte and take a tenth of a second to map, which
// every process would pay, also those without a GPU.
//
// Threads: the one that issues ops. Allocates: in Load(); products use the workspace of Reserve(),
// so they must be issued on one stream at a time. Errors: FailedPrecondition if the library is not
// installed, Internal if a call of it fails.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_MATMUL_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_MATMUL_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <cublas_v2.h>

namespace moelight {

// y = x * w^T, or y += x * w^T with `accumulate`. All in device memory, row-major.
struct CublasProduct {
  const void* x = nullptr;  // [num_tokens, num_cols] bf16
  const void* w = nullptr;  // [num_rows, num_cols] bf16
  float* y = nullptr;       // [num_tokens, num_rows]
  int64_t num_tokens = 0;
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  bool accumulate = false;
};

class Cublas {
 public:
  static absl::StatusOr<std::unique_ptr<Cublas>> Load();
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  // What cuBLAS asks to be given on this architecture.
  static int64_t WorkspaceBytes(int compute_major);
  void Reserve(char* workspace, int64_t workspace_bytes);

  absl::Status MatMul(const CublasProduct& product, cudaStream_t stream);

 private:
  // The entry points that are used, with the types of cublas_api.h. (Its C++ overloads of GemmEx
  // keep decltype from naming that one.)
  using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                    int, const void*, const void*, cudaDataType, int, const void*,
                                    cudaDataType, int, const void*, void*, cudaDataType, int,
                                    cublasComputeType_t, cublasGemmAlgo_t);
  struct Functions {
    decltype(&cublasCreate_v2) create = nullptr;
    decltype(&cublasDestroy_v2) destroy = nullptr;
    decltype(&cublasSetStream_v2) set_stream = nullptr;
    decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
    decltype(&cublasGetStatusName) get_status_name = nullptr;
    GemmEx gemm_ex = nullptr;
  };

  Cublas() = default;
  absl::Status Check(cublasStatus_t status, absl::string_view what) const;
  absl::Status Bind(cudaStream_t stream);

  Functions functions_;
  cublasHandle_t handle_ = nullptr;
  char* workspace_ = nullptr;
  int64_t workspace_bytes_ = 0;
  cudaStream_t bound_stream_ = nullptr;
  bool is_bound_ = false;  // to bound_stream_ and the workspace
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_MATMUL_H_
