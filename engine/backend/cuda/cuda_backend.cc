#include "engine/backend/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/backend/cuda/attention.h"
#include "engine/backend/cuda/attention_plan.h"
#include "engine/backend/cuda/cuda_check.h"
#include "engine/backend/cuda/cuda_clock.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/cuda_stream.h"
#include "engine/backend/cuda/matmul.h"
#include "engine/backend/cuda/moe.h"
#include "engine/backend/cuda/moe_kernels.h"
#include "engine/backend/cuda/row_kernels.h"
#include "engine/backend/cuda/upload_ring.h"
#include "engine/backend/formats/bf16.h"
#include "engine/backend/formats/bf16_tiled.h"
#include "engine/backend/op_checks.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Turing: the oldest that CUDA 13 compiles for. turing.cuh has what it lacks.
constexpr int kMinComputeMajor = 7;
constexpr int kMinComputeMinor = 5;

int32_t MaxHeadDim(int compute_major) {
  return compute_major < 8 ? kTuringMaxHeadDim : kCudaMaxHeadDim;
}

// Rows that go through scratch at once. Products of this many rows run at full speed, and the
// scratch of a dense layer of 14336 stays at 4096 * 16384 * 2 + 1024 * 14336 * 10 bytes = 268 MiB.
constexpr int64_t kMaxMatMulRows = 4096;
constexpr int64_t kMaxFfnRows = 1024;

int64_t RoundUp(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// Parts of the scratch, each aligned to 256.
struct ScratchLayout {
  int64_t workspace_bytes = 0;
  int64_t input_bytes = 0;    // inputs of a product: [rows, columns] bf16
  int64_t gate_up_bytes = 0;  // [rows, 2 * intermediate_size] f32
  int64_t hidden_bytes = 0;   // [rows, intermediate_size] bf16
  int64_t moe_bytes = 0;
  int64_t upload_bytes = 0;

  ScratchLayout() = default;
  ScratchLayout(const OpLimits& limits, int compute_major) {
    const int64_t max_cols = std::max(limits.hidden_size, limits.heads.q_size());
    const int64_t ffn_rows = std::min(limits.max_tokens, kMaxFfnRows);
    workspace_bytes = Cublas::WorkspaceBytes(compute_major);
    input_bytes = RoundUp(std::min(limits.max_tokens, kMaxMatMulRows) * max_cols * 2);
    gate_up_bytes = RoundUp(ffn_rows * 2 * limits.max_intermediate_size * 4);
    hidden_bytes = RoundUp(ffn_rows * limits.max_intermediate_size * 2);
    moe_bytes = RoundUp(CudaMoe::ScratchBytes(limits));
    upload_bytes = RoundUp(UploadRing::Bytes(limits));
  }

  int64_t total_bytes() const {
    return workspace_bytes + input_bytes + gate_up_bytes + hidden_bytes + moe_bytes + upload_bytes;
  }
};

// Whether `data` is host memory that the device cannot address.
bool IsUnpinned(const void* data) {
  cudaPointerAttributes attributes = {};
  return cudaPointerGetAttributes(&attributes, data) == cudaSuccess &&
         attributes.type == cudaMemoryTypeUnregistered;
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(const cudaDeviceProp& properties, std::unique_ptr<Cublas> cublas)
      : description_(absl::StrCat("cuda (", properties.name, ", sm_", properties.major,
                                  properties.minor, ")")),
        compute_major_(properties.major),
        cublas_(std::move(cublas)) {}

  absl::string_view name() const override { return "cuda"; }
  std::string description() const override { return description_; }
  DType activation_dtype() const override { return DType::kF32; }
  DType kv_dtype() const override { return DType::kBF16; }
  DType embedding_dtype() const override { return DType::kBF16; }
  const WeightFormat& weight_format() const override { return kBf16Format; }
  const WeightFormat& expert_format() const override { return kBf16TiledFormat; }

  bool has_device_memory() const override { return true; }
  int64_t free_device_bytes() const override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateDevice(absl::string_view name,
                                                               int64_t bytes) override {
    return AllocateCudaMemory(name, bytes);
  }
  absl::StatusOr<std::unique_ptr<PinnedRange>> PinHost(void* data, int64_t bytes) override {
    return PinForCuda(data, bytes);
  }

  std::unique_ptr<Stream> CreateStream(Lane lane) override {
    return std::make_unique<CudaStream>(lane, &clock_, &ring_);
  }

  int64_t scratch_bytes(const OpLimits& limits) const override {
    return ScratchLayout(limits, compute_major_).total_bytes();
  }
  int64_t pinned_bytes(const OpLimits& limits) const override { return UploadRing::Bytes(limits); }
  absl::Status CheckLimits(const OpLimits& limits) const override;
  absl::Status Reserve(const OpLimits& limits) override;

  absl::Status Embed(const EmbedArgs& args, Stream& stream) override;
  absl::Status RmsNorm(const RmsNormArgs& args, Stream& stream) override;
  absl::Status MatMul(const MatMulArgs& args, Stream& stream) override;
  absl::Status QkNormRope(const QkNormRopeArgs& args, Stream& stream) override;
  absl::Status Attention(const AttentionArgs& args, Stream& stream) override;
  absl::Status Router(const RouterArgs& args, Stream& stream) override;
  absl::Status MoeFfn(const MoeFfnArgs& args, Stream& stream) override;
  absl::Status DenseFfn(const DenseFfnArgs& args, Stream& stream) override;
  absl::Status GatherRows(const GatherRowsArgs& args, Stream& stream) override;
  absl::Status Copy(const TensorView& src, const TensorView& dst, Stream& stream) override;
  absl::Status CopyPages(const CopyPagesArgs& args, Stream& stream) override;

 private:
  template <typename T>
  absl::StatusOr<const T*> Upload(absl::Span<const T> span, cudaStream_t stream) {
    ASSIGN_OR_RETURN(const void* uploaded,
                     ring_.Upload(span.data(), span.data(),
                                  static_cast<int64_t>(span.size() * sizeof(T)), stream));
    return static_cast<const T*>(uploaded);
  }
  // Rounds rows [begin, end) of x to bf16 in input_.
  absl::Status RoundInput(const TensorView& x, int64_t begin, int64_t end, cudaStream_t stream);
  // y += Ffn(x) for rows [begin, end).
  absl::Status AddFfnRows(const DenseFfnArgs& args, int64_t begin, int64_t end,
                          cudaStream_t stream);

  const std::string description_;
  const int compute_major_;
  const std::unique_ptr<Cublas> cublas_;
  CudaClock clock_;
  UploadRing ring_;
  AttentionPlan attention_plan_;
  CudaMoe moe_;

  std::unique_ptr<DeviceBuffer> scratch_;
  ScratchLayout layout_;
  char* input_ = nullptr;
  char* gate_up_ = nullptr;
  char* hidden_ = nullptr;
};

int64_t CudaBackend::free_device_bytes() const {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  if (cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) return 0;
  return static_cast<int64_t>(free_bytes);
}

absl::Status CudaBackend::CheckLimits(const OpLimits& limits) const {
  const int32_t head_dim = limits.heads.head_dim;
  const int32_t max_head_dim = MaxHeadDim(compute_major_);
  if (head_dim < 2 || head_dim > max_head_dim || head_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "head_dim is ", head_dim, "; the cuda backend takes even ones up to ", max_head_dim));
  }
  if (limits.num_experts > kMaxRouterExperts || limits.num_experts_per_tok > kMaxExpertsPerToken) {
    return absl::InvalidArgumentError(
        absl::StrCat(limits.num_experts, " experts, ", limits.num_experts_per_tok,
                     " per token; the cuda backend takes up to ", kMaxRouterExperts, " and ",
                     kMaxExpertsPerToken));
  }
  return absl::OkStatus();
}

absl::Status CudaBackend::Reserve(const OpLimits& limits) {
  RETURN_IF_ERROR(CheckLimits(limits));
  RETURN_IF_ERROR(CudaStatus(cudaDeviceSynchronize(), "wait before new scratch"));
  const ScratchLayout layout(limits, compute_major_);
  scratch_ = nullptr;  // first, so that both need not fit
  ASSIGN_OR_RETURN(scratch_, AllocateDevice("scratch", layout.total_bytes()));
  layout_ = layout;
  char* next = scratch_->data();
  const auto take = [&next](int64_t bytes) { return std::exchange(next, next + bytes); };
  cublas_->Reserve(take(layout.workspace_bytes), layout.workspace_bytes);
  input_ = take(layout.input_bytes);
  gate_up_ = take(layout.gate_up_bytes);
  hidden_ = take(layout.hidden_bytes);
  moe_.Reserve(limits, take(layout.moe_bytes));
  attention_plan_.Reserve(limits);
  return ring_.Reserve(limits, take(layout.upload_bytes));
}

absl::Status CudaBackend::Embed(const EmbedArgs& args, Stream& stream) {
  CheckEmbed(args, *this);
  if (args.token_ids.empty()) return absl::OkStatus();
  const cudaStream_t cuda_stream = CudaStream::Get(stream);
  GatherParams params;
  params.x = args.table.data;
  params.x_is_bf16 = args.table.dtype == DType::kBF16;
  ASSIGN_OR_RETURN(params.rows, Upload(args.token_ids, cuda_stream));
  params.y = args.y.as<float>();
  params.num_rows = args.y.dim(0);
  params.row_size = args.y.dim(1);
  return CudaStatus(LaunchGather(params, cuda_stream), "embed");
}

absl::Status CudaBackend::RmsNorm(const RmsNormArgs& args, Stream& stream) {
  CheckRmsNorm(args, *this);
  RmsNormParams params;
  params.x = args.x.as<float>();
  params.weight = args.weight.as<float>();
  params.epsilon = args.epsilon;
  params.y = args.y.as<float>();
  params.num_rows = args.x.dim(0);
  params.row_size = args.x.dim(1);
  return CudaStatus(LaunchRmsNorm(params, CudaStream::Get(stream)), "rms norm");
}

absl::Status CudaBackend::RoundInput(const TensorView& x, int64_t begin, int64_t end,
                                     cudaStream_t stream) {
  const int64_t num_elements = (end - begin) * x.dim(1);
  CHECK_LE(num_elements * 2, layout_.input_bytes) << "beyond Reserve()";
  return CudaStatus(
      LaunchRoundToBf16(x.as<float>() + begin * x.dim(1), input_, num_elements, stream),
      "round to bf16");
}

absl::Status CudaBackend::MatMul(const MatMulArgs& args, Stream& stream) {
  CheckMatMul(args, *this);
  const cudaStream_t cuda_stream = CudaStream::Get(stream);
  const int64_t num_tokens = args.x.dim(0);
  for (int64_t begin = 0; begin < num_tokens; begin += kMaxMatMulRows) {
    const int64_t end = std::min(num_tokens, begin + kMaxMatMulRows);
    RETURN_IF_ERROR(RoundInput(args.x, begin, end, cuda_stream));
    CublasProduct product;
    product.x = input_;
    product.w = args.weight.data;
    product.y = args.y.as<float>() + begin * args.weight.num_rows;
    product.num_tokens = end - begin;
    product.num_rows = args.weight.num_rows;
    product.num_cols = args.weight.num_cols;
    product.accumulate = args.accumulate;
    RETURN_IF_ERROR(cublas_->MatMul(product, cuda_stream));
  }
  return absl::OkStatus();
}

absl::Status CudaBackend::QkNormRope(const QkNormRopeArgs& args, Stream& stream) {
  CheckQkNormRope(args, *this);
  if (args.positions.empty()) return absl::OkStatus();
  const cudaStream_t cuda_stream = CudaStream::Get(stream);
  QkNormRopeParams params;
  params.qkv = args.qkv.as<float>();
  params.num_tokens = args.qkv.dim(0);
  params.qkv_size = args.qkv.dim(1);
  params.num_query_heads = args.heads.num_attention_heads;
  params.num_key_heads = args.heads.num_key_value_heads;
  params.head_dim = args.heads.head_dim;
  ASSIGN_OR_RETURN(params.positions, Upload(args.positions, cuda_stream));
  params.q_norm = args.q_norm.as<float>();
  params.k_norm = args.k_norm.as<float>();
  params.epsilon = args.epsilon;
  params.inv_freq = args.inv_freq.as<float>();
  return CudaStatus(LaunchQkNormRope(params, cuda_stream), "rotary embedding");
}

absl::Status CudaBackend::Attention(const AttentionArgs& args, Stream& stream) {
  CheckAttention(args, *this);
  CHECK_LE(args.heads.head_dim, kCudaMaxHeadDim);
  if (args.soft_cap > 0 || args.sinks.defined()) {
    return absl::UnimplementedError("the cuda backend has no soft cap and no attention sinks yet");
  }
  attention_plan_.Build(args);
  if (attention_plan_.empty()) return absl::OkStatus();
  const cudaStream_t cuda_stream = CudaStream::Get(stream);
  ASSIGN_OR_RETURN(const void* plan, ring_.Upload(args.sequences.data(), attention_plan_.data(),
                                                  attention_plan_.bytes(), cuda_stream));
  const AttentionParams params = attention_plan_.Params(args, plan);
  RETURN_IF_ERROR(CudaStatus(LaunchAppendKv(params, cuda_stream), "append keys and values"));
  return CudaStatus(LaunchAttention(params, cuda_stream), "attention");
}

absl::Status CudaBackend::Router(const RouterArgs& args, Stream& stream) {
  CheckRouter(args, *this);
  return moe_.Router(args, CudaStream::Get(stream));
}

absl::Status CudaBackend::MoeFfn(const MoeFfnArgs& args, Stream& stream) {
  CheckMoeFfn(args, *this);
  return moe_.MoeFfn(args, CudaStream::Get(stream));
}

absl::Status CudaBackend::AddFfnRows(const DenseFfnArgs& args, int64_t begin, int64_t end,
                                     cudaStream_t stream) {
  const WeightMatrix& gate_up = args.weights.gate_up;
  const WeightMatrix& down = args.weights.down;
  CHECK_LE((end - begin) * gate_up.num_rows * 4, layout_.gate_up_bytes) << "beyond Reserve()";
  RETURN_IF_ERROR(RoundInput(args.x, begin, end, stream));
  CublasProduct product;
  product.x = input_;
  product.w = gate_up.data;
  product.y = reinterpret_cast<float*>(gate_up_);
  product.num_tokens = end - begin;
  product.num_rows = gate_up.num_rows;
  product.num_cols = gate_up.num_cols;
  RETURN_IF_ERROR(cublas_->MatMul(product, stream));
  SwiGluParams swiglu;
  swiglu.gate_up = reinterpret_cast<const float*>(gate_up_);
  swiglu.h = hidden_;
  swiglu.num_tokens = end - begin;
  swiglu.intermediate_size = down.num_cols;
  RETURN_IF_ERROR(CudaStatus(LaunchSwiGlu(swiglu, stream), "swiglu"));
  product.x = hidden_;
  product.w = down.data;
  product.y = args.y.as<float>() + begin * down.num_rows;
  product.num_rows = down.num_rows;
  product.num_cols = down.num_cols;
  product.accumulate = true;
  return cublas_->MatMul(product, stream);
}

absl::Status CudaBackend::DenseFfn(const DenseFfnArgs& args, Stream& stream) {
  CheckDenseFfn(args, *this);
  const cudaStream_t cuda_stream = CudaStream::Get(stream);
  const int64_t num_tokens = args.x.dim(0);
  for (int64_t begin = 0; begin < num_tokens; begin += kMaxFfnRows) {
    const int64_t end = std::min(num_tokens, begin + kMaxFfnRows);
    RETURN_IF_ERROR(AddFfnRows(args, begin, end, cuda_stream));
  }
  return absl::OkStatus();
}

absl::Status CudaBackend::GatherRows(const GatherRowsArgs& args, Stream& stream) {
  CheckGatherRows(args, *this);
  if (args.rows.empty()) return absl::OkStatus();
  const cudaStream_t cuda_stream = CudaStream::Get(stream);
  GatherParams params;
  params.x = args.x.data;
  ASSIGN_OR_RETURN(params.rows, Upload(args.rows, cuda_stream));
  params.y = args.y.as<float>();
  params.num_rows = args.y.dim(0);
  params.row_size = args.y.dim(1);
  return CudaStatus(LaunchGather(params, cuda_stream), "gather rows");
}

absl::Status CudaBackend::Copy(const TensorView& src, const TensorView& dst, Stream& stream) {
  CheckCopy(src, dst);
  if (src.bytes() == 0) return absl::OkStatus();
  return CudaStatus(
      cudaMemcpyAsync(dst.data, src.data, src.bytes(), cudaMemcpyDefault, CudaStream::Get(stream)),
      absl::StrCat("copy ", src.bytes(), " bytes"));
}

absl::Status CudaBackend::CopyPages(const CopyPagesArgs& args, Stream& stream) {
  CheckCopyPages(args);
  if (args.pages.empty()) return absl::OkStatus();
  static_assert(sizeof(PageCopy) == 2 * sizeof(int32_t), "the kernel reads pairs of indices");
  const cudaStream_t cuda_stream = CudaStream::Get(stream);
  if (IsUnpinned(args.src) || IsUnpinned(args.dst)) {
    // A kernel cannot reach it; the runtime copies it page by page, slowly.
    for (const PageCopy& page : args.pages) {
      RETURN_IF_ERROR(CudaStatus(
          cudaMemcpyAsync(static_cast<char*>(args.dst) + page.dst_page * args.page_bytes,
                          static_cast<const char*>(args.src) + page.src_page * args.page_bytes,
                          args.page_bytes, cudaMemcpyDefault, cuda_stream),
          "copy a page of unpinned memory"));
    }
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const PageCopy* pages, Upload(args.pages, cuda_stream));
  CopyPagesParams params;
  params.src = static_cast<const char*>(args.src);
  params.dst = static_cast<char*>(args.dst);
  params.page_bytes = args.page_bytes;
  params.pages = reinterpret_cast<const int32_t*>(pages);
  params.num_pages = static_cast<int64_t>(args.pages.size());
  return CudaStatus(LaunchCopyPages(params, cuda_stream), "copy pages");
}

// The properties of device 0 once it is known to serve.
absl::StatusOr<cudaDeviceProp> UseDevice() {
  const auto unusable = [](absl::string_view reason) {
    (void)cudaGetLastError();
    return absl::FailedPreconditionError(absl::StrCat("no usable NVIDIA GPU: ", reason));
  };
  int num_devices = 0;
  cudaError_t error = cudaGetDeviceCount(&num_devices);
  if (error != cudaSuccess) return unusable(CudaErrorText(error));
  if (num_devices == 0) return unusable("there is none");
  cudaDeviceProp properties;
  error = cudaGetDeviceProperties(&properties, 0);
  if (error != cudaSuccess) return unusable(CudaErrorText(error));
  if (std::pair(properties.major, properties.minor) <
      std::pair(kMinComputeMajor, kMinComputeMinor)) {
    return unusable(absl::StrCat(properties.name, " has compute capability ", properties.major, ".",
                                 properties.minor, ", below ", kMinComputeMajor, ".",
                                 kMinComputeMinor));
  }
  if (!properties.canUseHostPointerForRegisteredMem) {
    return unusable(absl::StrCat(properties.name, " cannot read pinned host memory in place"));
  }
  // The thread that waits for the device sleeps, since the cores have attention to compute.
  error = cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync | cudaDeviceMapHost);
  // The first call that starts the device's context, and the first that finds it broken.
  if (error == cudaSuccess) error = cudaFree(nullptr);
  // Fails if none of the kernels was compiled for this device.
  if (error == cudaSuccess) error = PrepareAttention(MaxHeadDim(properties.major));
  if (error != cudaSuccess) return unusable(CudaErrorText(error));
  return properties;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const BackendOptions& options) {
  if (!options.isa.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the cuda backend has no isa variants, but isa is \"", options.isa, "\""));
  }
  if (!options.kv_format.empty() && options.kv_format != KvFormatName(DType::kBF16)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the cuda backend keeps K and V in bf16, but kv_format is \"", options.kv_format, "\""));
  }
  ASSIGN_OR_RETURN(const cudaDeviceProp properties, UseDevice());
  ASSIGN_OR_RETURN(std::unique_ptr<Cublas> cublas, Cublas::Load());
  return std::make_unique<CudaBackend>(properties, std::move(cublas));
}

}  // namespace moelight
