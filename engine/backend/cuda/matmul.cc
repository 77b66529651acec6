#include "engine/backend/cuda/matmul.h"

#include <dlfcn.h>

#include <string>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// The name that the dynamic linker knows, then where the toolkit's own installer puts it, which not
// every system lists.
void* OpenLibrary() {
  const std::string name = absl::StrCat("libcublas.so.", CUBLAS_VER_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) return library;
  return dlopen(absl::StrCat("/usr/local/cuda/lib64/", name).c_str(), RTLD_NOW | RTLD_LOCAL);
}

template <typename Function>
bool Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Cublas>> Cublas::Load() {
  // Never closed: the library keeps state of the process.
  void* library = OpenLibrary();
  if (library == nullptr) {
    const char* error = dlerror();
    return absl::FailedPreconditionError(absl::StrCat(
        "cuBLAS ", CUBLAS_VER_MAJOR, " cannot be loaded: ", error ? error : "unknown"));
  }
  std::unique_ptr<Cublas> cublas(new Cublas());
  Functions& functions = cublas->functions_;
  if (!Find(library, "cublasCreate_v2", &functions.create) ||
      !Find(library, "cublasDestroy_v2", &functions.destroy) ||
      !Find(library, "cublasSetStream_v2", &functions.set_stream) ||
      !Find(library, "cublasSetWorkspace_v2", &functions.set_workspace) ||
      !Find(library, "cublasGetStatusName", &functions.get_status_name) ||
      !Find(library, "cublasGemmEx", &functions.gemm_ex)) {
    return absl::FailedPreconditionError("the cuBLAS library lacks a function that is needed");
  }
  RETURN_IF_ERROR(cublas->Check(functions.create(&cublas->handle_), "start cuBLAS"));
  return cublas;
}

Cublas::~Cublas() {
  if (handle_ != nullptr) functions_.destroy(handle_);
}

int64_t Cublas::WorkspaceBytes(int compute_major) {
  // The sizes that the documentation of cublasSetWorkspace recommends: 32 MiB from Hopper on.
  return int64_t{compute_major >= 9 ? 32 : 4} << 20;
}

void Cublas::Reserve(char* workspace, int64_t workspace_bytes) {
  workspace_ = workspace;
  workspace_bytes_ = workspace_bytes;
  is_bound_ = false;
}

absl::Status Cublas::Check(cublasStatus_t status, absl::string_view what) const {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", functions_.get_status_name(status)));
}

absl::Status Cublas::Bind(cudaStream_t stream) {
  if (is_bound_ && stream == bound_stream_) return absl::OkStatus();
  CHECK(workspace_ != nullptr) << "ops need Reserve()";
  is_bound_ = false;
  RETURN_IF_ERROR(Check(functions_.set_stream(handle_, stream), "set the stream of cuBLAS"));
  // After the stream, which takes the workspace back to memory that cuBLAS allocates.
  RETURN_IF_ERROR(Check(functions_.set_workspace(handle_, workspace_, workspace_bytes_),
                        "set the workspace of cuBLAS"));
  bound_stream_ = stream;
  is_bound_ = true;
  return absl::OkStatus();
}

absl::Status Cublas::MatMul(const CublasProduct& product, cudaStream_t stream) {
  if (product.num_tokens == 0 || product.num_rows == 0) return absl::OkStatus();
  RETURN_IF_ERROR(Bind(stream));
  // cuBLAS has columns where we have rows: y^T [num_rows, num_tokens] = w x^T, and what it sees at
  // `w` is w^T [num_cols, num_rows].
  const int m = static_cast<int>(product.num_rows);
  const int n = static_cast<int>(product.num_tokens);
  const int k = static_cast<int>(product.num_cols);
  const float alpha = 1.0f;
  const float beta = product.accumulate ? 1.0f : 0.0f;
  return Check(functions_.gemm_ex(handle_, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &alpha, product.w,
                                  CUDA_R_16BF, k, product.x, CUDA_R_16BF, k, &beta, product.y,
                                  CUDA_R_32F, m, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
               absl::StrCat("multiply [", n, ", ", k, "] by [", m, ", ", k, "]^T"));
}

}  // namespace moelight
