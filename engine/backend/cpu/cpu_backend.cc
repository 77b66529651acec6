#include "engine/backend/cpu/cpu_backend.h"

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "engine/backend/cpu/attention.h"
#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/cpu/ffn.h"
#include "engine/backend/cpu/isa.h"
#include "engine/backend/cpu/matmul.h"
#include "engine/backend/cpu/rope_table.h"
#include "engine/backend/cpu/router.h"
#include "engine/backend/formats/bf16_tiled.h"
#include "engine/backend/host_copy.h"
#include "engine/backend/inline_stream.h"
#include "engine/backend/op_checks.h"
#include "engine/backend/paged_experts.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(const CpuIsa& isa, const ParallelOptions& threads, DType kv_dtype)
      : context_(isa, threads), attention_(&context_, kv_dtype), ffn_(&context_) {}

  absl::string_view name() const override { return "cpu"; }
  std::string description() const override {
    const int num_threads = context_.runner.num_threads();
    return absl::StrCat("cpu (", context_.isa_name, ", ", num_threads,
                        num_threads == 1 ? " thread" : " threads",
                        context_.runner.is_pinned() ? ", pinned)" : ")");
  }
  DType activation_dtype() const override { return DType::kF32; }
  DType kv_dtype() const override { return attention_.kv_dtype(); }
  DType embedding_dtype() const override { return DType::kBF16; }
  const WeightFormat& weight_format() const override { return kBf16TiledFormat; }

  std::unique_ptr<Stream> CreateStream(Lane) override { return std::make_unique<InlineStream>(); }

  int64_t scratch_bytes(const OpLimits& limits) const override {
    return WorkerScratchBytes(limits) * context_.runner.num_threads() + PanelBytes(limits) +
           CpuFfn::ScratchBytes(limits) + RopeTable::ScratchBytes(limits) +
           attention_.ScratchBytes(limits);
  }
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
  // The ops run one after another, so they share it.
  int64_t WorkerScratchBytes(const OpLimits& limits) const {
    return AlignedBuffer::Padded(
        std::max({CpuFfn::WorkerScratchBytes(), MatMulWorkerScratchBytes(),
                  RouterWorkerScratchBytes(limits.num_experts),
                  CpuAttention::WorkerScratchBytes(limits, context_.kernels)}));
  }

  int64_t PanelBytes(const OpLimits& limits) const {
    return std::max(CpuFfn::PanelBytes(limits, context_.kernels),
                    MatMulPanelBytes(limits, context_.kernels));
  }

  CpuContext context_;
  CpuAttention attention_;
  CpuFfn ffn_;
  PagedExperts paged_experts_;
  RopeTable rope_table_;
};

absl::Status CpuBackend::CheckLimits(const OpLimits& limits) const {
  const int32_t head_dim = limits.heads.head_dim;
  if (head_dim < 2 || head_dim > kMaxHeadDim || head_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "head_dim is ", head_dim, "; the cpu backend takes even ones up to ", kMaxHeadDim));
  }
  if (kv_dtype() == DType::kI8 && head_dim % 4 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head_dim is ", head_dim, "; the KV format int8 takes multiples of 4"));
  }
  return absl::OkStatus();
}

absl::Status CpuBackend::Reserve(const OpLimits& limits) {
  RETURN_IF_ERROR(CheckLimits(limits));
  RETURN_IF_ERROR(context_.ReserveWorkerBytes(WorkerScratchBytes(limits)));
  RETURN_IF_ERROR(context_.ReservePanelBytes(PanelBytes(limits)));
  RETURN_IF_ERROR(ffn_.Reserve(limits));
  RETURN_IF_ERROR(rope_table_.Reserve(limits));
  return attention_.Reserve(limits);
}

absl::Status CpuBackend::Embed(const EmbedArgs& args, Stream&) {
  CheckEmbed(args, *this);
  const int64_t n = args.table.dim(1);
  const int64_t num_tokens = static_cast<int64_t>(args.token_ids.size());
  context_.ForRows(num_tokens, n, [&](int64_t row) {
    float* y = args.y.as<float>() + row * n;
    const int64_t from = args.token_ids[row] * n;
    if (args.table.dtype == DType::kF32) {
      std::copy_n(args.table.as<float>() + from, n, y);
    } else {
      context_.kernels.bf16_to_f32(args.table.as<uint16_t>() + from, n, y);
    }
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::RmsNorm(const RmsNormArgs& args, Stream&) {
  CheckRmsNorm(args, *this);
  const int64_t n = args.x.dim(1);
  context_.ForRows(args.x.dim(0), n, [&](int64_t row) {
    context_.kernels.rms_norm(args.x.as<float>() + row * n, args.weight.as<float>(), n,
                              args.epsilon, args.y.as<float>() + row * n);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::MatMul(const MatMulArgs& args, Stream&) {
  CheckMatMul(args, *this);
  RunMatMul(args, context_);
  return absl::OkStatus();
}

absl::Status CpuBackend::QkNormRope(const QkNormRopeArgs& args, Stream&) {
  CheckQkNormRope(args, *this);
  if (args.positions.empty()) return absl::OkStatus();
  const HeadGeometry& heads = args.heads;
  const int32_t last = *std::max_element(args.positions.begin(), args.positions.end());
  rope_table_.Prepare(args.inv_freq.as<float>(), heads.head_dim / 2, int64_t{last} + 1);
  context_.ForRows(args.qkv.dim(0), heads.qkv_size(), [&](int64_t row) {
    RopeCall call;
    call.heads = args.qkv.as<float>() + row * heads.qkv_size();
    call.num_heads = heads.num_attention_heads;
    call.head_dim = heads.head_dim;
    call.norm = static_cast<const float*>(args.q_norm.data);
    call.epsilon = args.epsilon;
    call.cos = rope_table_.cos(args.positions[row]);
    call.sin = rope_table_.sin(args.positions[row]);
    context_.kernels.rope(call);
    call.heads += heads.q_size();
    call.num_heads = heads.num_key_value_heads;
    call.norm = static_cast<const float*>(args.k_norm.data);
    context_.kernels.rope(call);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::Attention(const AttentionArgs& args, Stream&) {
  CheckAttention(args, *this);
  attention_.Run(args);
  return absl::OkStatus();
}

absl::Status CpuBackend::Router(const RouterArgs& args, Stream&) {
  CheckRouter(args, *this);
  RunRouter(args, context_);
  return absl::OkStatus();
}

absl::Status CpuBackend::MoeFfn(const MoeFfnArgs& args, Stream&) {
  CheckMoeFfn(args, *this);
  MoeFfnArgs in_place = args;
  in_place.experts = paged_experts_.Gather(args);
  ffn_.RunMoe(in_place);
  return absl::OkStatus();
}

absl::Status CpuBackend::DenseFfn(const DenseFfnArgs& args, Stream&) {
  CheckDenseFfn(args, *this);
  ffn_.RunDense(args);
  return absl::OkStatus();
}

absl::Status CpuBackend::GatherRows(const GatherRowsArgs& args, Stream&) {
  CheckGatherRows(args, *this);
  const int64_t n = args.x.dim(1);
  context_.ForRows(static_cast<int64_t>(args.rows.size()), n, [&](int64_t row) {
    std::copy_n(args.x.as<float>() + args.rows[row] * n, n, args.y.as<float>() + row * n);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::Copy(const TensorView& src, const TensorView& dst, Stream&) {
  CopyOnHost(src, dst);
  return absl::OkStatus();
}

absl::Status CpuBackend::CopyPages(const CopyPagesArgs& args, Stream&) {
  CopyPagesOnHost(args);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const BackendOptions& options) {
  ASSIGN_OR_RETURN(const CpuIsa* isa, ChooseCpuIsa(options.isa));
  DType kv_dtype = DType::kBF16;
  if (!options.kv_format.empty()) {
    ASSIGN_OR_RETURN(kv_dtype, ParseKvFormat(options.kv_format));
  }
  if (kv_dtype == DType::kF32) {
    return absl::InvalidArgumentError("the cpu backend keeps K and V in bf16, f16 or int8");
  }
  const ParallelOptions threads = {options.num_threads, options.pin_threads};
  return std::make_unique<CpuBackend>(*isa, threads, kv_dtype);
}

}  // namespace moelight
