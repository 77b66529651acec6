#include "engine/backend/simulated/simulated_backend.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <absl/strings/str_cat.h>
#include <sys/mman.h>

#include "engine/backend/formats/bf16.h"
#include "engine/backend/formats/bf16_tiled.h"
#include "engine/backend/op_checks.h"
#include "engine/backend/simulated/attended_pairs.h"
#include "engine/backend/simulated/op_costs.h"
#include "engine/backend/simulated/virtual_clock.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Rows that the dense products of the cuda backend put through scratch at once, and those of a
// dense layer (cuda_backend.cc).
constexpr int64_t kMaxMatMulRows = 4096;
constexpr int64_t kMaxFfnRows = 1024;
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
// Of the cpu backend, for each worker: tiles of sums and packed rows, about.
constexpr int64_t kWorkerScratchBytes = int64_t{4} << 20;

// Address space without memory behind it.
class ReservedBuffer final : public DeviceBuffer {
 public:
  ReservedBuffer(char* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  ~ReservedBuffer() override { munmap(data_, bytes_); }
  char* data() const override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  char* const data_;
  const int64_t bytes_;
};

SimulatedStream& Get(Stream& stream) {
  auto* simulated = dynamic_cast<SimulatedStream*>(&stream);
  CHECK(simulated != nullptr) << "the stream belongs to another backend";
  return *simulated;
}

void Spend(const OpCost& cost, Stream& stream) { Get(stream).Spend(cost.us); }

int64_t BytesOf(const WeightMatrix& matrix) {
  return matrix.format->bytes(matrix.num_rows, matrix.num_cols);
}

// The machine's device, or its host beside a GPU, whose only op is attention.
class SimulatedBackend final : public Backend {
 public:
  SimulatedBackend(const HardwareProfile& profile, bool is_gpu, DType kv_dtype,
                   std::shared_ptr<VirtualClock> clock)
      : costs_(profile), is_gpu_(is_gpu), kv_dtype_(kv_dtype), clock_(std::move(clock)) {}

  absl::string_view name() const override { return "simulated"; }
  std::string description() const override {
    const HardwareProfile& profile = costs_.profile();
    return absl::StrCat("simulated (", is_gpu_ ? profile.gpu.name : profile.host.name, ")");
  }
  DType activation_dtype() const override { return DType::kF32; }
  DType kv_dtype() const override { return kv_dtype_; }
  DType embedding_dtype() const override { return DType::kBF16; }
  const WeightFormat& weight_format() const override { return kBf16Format; }
  const WeightFormat& expert_format() const override { return kBf16TiledFormat; }
  bool has_device_memory() const override { return is_gpu_; }
  bool is_virtual() const override { return true; }
  int64_t free_device_bytes() const override {
    return is_gpu_ ? costs_.profile().gpu.memory_bytes : 0;
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateDevice(absl::string_view name,
                                                               int64_t bytes) override {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no address space of ", bytes, " bytes for ", name, ": ", strerror(errno)));
    }
    return std::make_unique<ReservedBuffer>(static_cast<char*>(data), bytes);
  }
  std::unique_ptr<Stream> CreateStream(Lane lane) override {
    return std::make_unique<SimulatedStream>(lane, clock_);
  }

  int64_t scratch_bytes(const OpLimits& limits) const override;
  absl::Status Reserve(const OpLimits&) override { return absl::OkStatus(); }

  absl::Status Embed(const EmbedArgs& args, Stream& stream) override {
    CheckEmbed(args, *this);
    return Rows(2 * args.y.bytes(), stream);
  }
  absl::Status RmsNorm(const RmsNormArgs& args, Stream& stream) override {
    CheckRmsNorm(args, *this);
    return Rows(args.x.bytes() + args.y.bytes(), stream);
  }
  absl::Status QkNormRope(const QkNormRopeArgs& args, Stream& stream) override {
    CheckQkNormRope(args, *this);
    return Rows(2 * args.qkv.bytes(), stream);
  }
  absl::Status GatherRows(const GatherRowsArgs& args, Stream& stream) override {
    CheckGatherRows(args, *this);
    return Rows(2 * args.y.bytes(), stream);
  }
  absl::Status MatMul(const MatMulArgs& args, Stream& stream) override {
    CheckMatMul(args, *this);
    return Product(args.x.dim(0), args.weight, stream);
  }
  absl::Status DenseFfn(const DenseFfnArgs& args, Stream& stream) override {
    CheckDenseFfn(args, *this);
    RETURN_IF_ERROR(Product(args.x.dim(0), args.weights.gate_up, stream));
    return Product(args.x.dim(0), args.weights.down, stream);
  }
  absl::Status Router(const RouterArgs& args, Stream& stream) override {
    CheckRouter(args, *this);
    Spend(costs_.Router(args.x.dim(0), args.x.dim(1), args.weight.dim(0)), stream);
    return absl::OkStatus();
  }
  absl::Status Attention(const AttentionArgs& args, Stream& stream) override;
  absl::Status MoeFfn(const MoeFfnArgs& args, Stream& stream) override;
  absl::Status Copy(const TensorView& src, const TensorView& dst, Stream& stream) override;
  absl::Status CopyPages(const CopyPagesArgs& args, Stream& stream) override;

 private:
  absl::Status Rows(int64_t bytes, Stream& stream) {
    Spend(costs_.Rows(bytes), stream);
    return absl::OkStatus();
  }
  absl::Status Product(int64_t rows, const WeightMatrix& weight, Stream& stream) {
    Spend(costs_.MatMul(rows, weight.num_rows, weight.num_cols, BytesOf(weight),
                        DTypeBytes(activation_dtype())),
          stream);
    return absl::OkStatus();
  }

  const OpCosts costs_;
  const bool is_gpu_;
  const DType kv_dtype_;
  const std::shared_ptr<VirtualClock> clock_;
};

int64_t SimulatedBackend::scratch_bytes(const OpLimits& limits) const {
  const int64_t columns = std::max(limits.hidden_size, limits.heads.q_size());
  if (!is_gpu_) {
    return costs_.profile().host.num_threads * kWorkerScratchBytes +
           limits.max_tokens * (columns + 2 * limits.max_intermediate_size) * 4;
  }
  // As cuda_backend.cc and moe.cc lay it out, uploads and alignment aside.
  const int64_t ffn_rows = std::min(limits.max_tokens, kMaxFfnRows);
  const int64_t slots = limits.max_tokens * limits.num_experts_per_tok;
  return kWorkspaceBytes + std::min(limits.max_tokens, kMaxMatMulRows) * columns * 2 +
         ffn_rows * limits.max_intermediate_size * 10 +
         slots * (limits.hidden_size * 4 + limits.max_intermediate_size * 2) +
         limits.max_tokens * limits.hidden_size * 2;
}

absl::Status SimulatedBackend::Attention(const AttentionArgs& args, Stream& stream) {
  CheckAttention(args, *this);
  int64_t num_new = 0;
  int64_t num_pairs = 0;
  int64_t num_positions = 0;
  for (const AttentionSequence& sequence : args.sequences) {
    num_new += sequence.num_tokens;
    num_positions += sequence.num_tokens + sequence.num_cached_tokens;
    num_pairs +=
        AttendedPairs(sequence.num_tokens, sequence.num_cached_tokens, args.sliding_window);
  }
  if (!is_gpu_) {
    Spend(costs_.HostAttention(args.heads, args.kv.dtype, num_new, num_pairs), stream);
    return absl::OkStatus();
  }
  const int64_t kv_bytes = num_positions * 2 * args.heads.num_key_value_heads *
                           KvRowBytes(args.kv.dtype, args.heads.head_dim);
  Spend(costs_.DeviceAttention(args.heads, num_pairs, kv_bytes), stream);
  return absl::OkStatus();
}

absl::Status SimulatedBackend::MoeFfn(const MoeFfnArgs& args, Stream& stream) {
  CheckMoeFfn(args, *this);
  const FfnWeights& first = args.experts.front();
  ExpertShape shape;
  shape.num_tokens = args.x.dim(0);
  shape.num_experts = static_cast<int64_t>(args.experts.size());
  shape.num_experts_per_tok = args.routing.expert_ids.dim(1);
  shape.hidden_size = args.x.dim(1);
  shape.intermediate_size = first.down.num_cols;
  shape.expert_bytes = BytesOf(first.gate_up) + BytesOf(first.down);
  Spend(costs_.Experts(shape), stream);
  return absl::OkStatus();
}

absl::Status SimulatedBackend::Copy(const TensorView& src, const TensorView& dst, Stream& stream) {
  CheckCopy(src, dst);
  const Lane lane = Get(stream).lane();
  Spend(lane == Lane::kHostToDevice   ? costs_.ToDevice(src.bytes())
        : lane == Lane::kDeviceToHost ? costs_.ToHost(src.bytes())
                                      : costs_.DeviceCopy(src.bytes()),
        stream);
  return absl::OkStatus();
}

absl::Status SimulatedBackend::CopyPages(const CopyPagesArgs& args, Stream& stream) {
  CheckCopyPages(args);
  const int64_t bytes = static_cast<int64_t>(args.pages.size()) * args.page_bytes;
  Spend(Get(stream).lane() == Lane::kDeviceToHost ? costs_.PagesToHost(bytes)
                                                  : costs_.PagesToDevice(bytes),
        stream);
  return absl::OkStatus();
}

}  // namespace

SimulatedMachine CreateSimulatedMachine(const HardwareProfile& profile, DType kv_dtype) {
  SimulatedMachine machine;
  machine.clock = std::make_shared<VirtualClock>();
  if (profile.has_gpu()) {
    // The GPU keeps K and V in its own format, as the cuda backend does.
    machine.device =
        std::make_unique<SimulatedBackend>(profile, /*is_gpu=*/true, DType::kBF16, machine.clock);
    machine.host =
        std::make_unique<SimulatedBackend>(profile, /*is_gpu=*/false, kv_dtype, machine.clock);
  } else {
    machine.device =
        std::make_unique<SimulatedBackend>(profile, /*is_gpu=*/false, kv_dtype, machine.clock);
  }
  return machine;
}

}  // namespace moelight
