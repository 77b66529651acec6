#include "engine/cpu_probe/expert_probe.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/backend/backend.h"
#include "engine/backend/formats/bf16_tiled.h"
#include "engine/base/parallel.h"
#include "engine/base/status_macros.h"
#include "engine/cpu_probe/probe_memory.h"

namespace moelight {
namespace {

// That of the cpu backend. Random bf16 numbers are a matrix of it without being packed.
const WeightFormat& kFormat = kBf16TiledFormat;

int64_t GateUpBytes(const ExpertProbeSpec& spec) {
  return kFormat.bytes(2 * spec.intermediate_size, spec.hidden_size);
}
int64_t DownBytes(const ExpertProbeSpec& spec) {
  return kFormat.bytes(spec.hidden_size, spec.intermediate_size);
}

OpLimits Limits(const ExpertProbeSpec& spec) {
  OpLimits limits;
  limits.max_tokens = *std::max_element(spec.tokens.begin(), spec.tokens.end());
  limits.hidden_size = spec.hidden_size;
  limits.max_intermediate_size = spec.intermediate_size;
  limits.num_experts = 1;
  limits.num_experts_per_tok = 1;
  // No attention runs; the least that the backend takes.
  limits.max_sequences = 1;
  limits.max_model_len = 1;
  limits.heads = {1, 1, 2};
  return limits;
}

absl::Status CheckSpec(const ExpertProbeSpec& spec, const CpuProbeOptions& options) {
  if (spec.hidden_size < 1 || spec.intermediate_size < 1) {
    return absl::InvalidArgumentError(absl::StrCat("an expert of ", spec.hidden_size, " x ",
                                                   spec.intermediate_size,
                                                   ": both must be at least 1"));
  }
  if (spec.tokens.empty()) return absl::InvalidArgumentError("no number of tokens to measure");
  for (const int64_t tokens : spec.tokens) {
    if (tokens >= 1) continue;
    return absl::InvalidArgumentError(absl::StrCat(tokens, " tokens: must be at least 1"));
  }
  if (ExpertProbeBytes(spec) > options.memory_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "an expert of ", spec.hidden_size, " x ", spec.intermediate_size, " has ",
        ExpertProbeBytes(spec), " bytes, and the probe may take ", options.memory_bytes));
  }
  return absl::OkStatus();
}

// Calls with one number of tokens, each to the next of the experts that the memory holds.
class ExpertCalls {
 public:
  ExpertCalls(const ExpertProbeSpec& spec, int64_t tokens, const ProbeMemory& memory,
              Backend& backend)
      : spec_(spec),
        backend_(backend),
        stream_(backend.CreateStream(Lane::kGpu)),
        tokens_(tokens),
        memory_(memory.data()),
        num_experts_(NumColdPieces(ExpertProbeBytes(spec), memory.bytes())),
        x_(tokens * spec.hidden_size),
        y_(tokens * spec.hidden_size),
        gates_(tokens, 1.0f),
        expert_ids_(tokens, 0),
        slots_(tokens),
        offsets_{0, static_cast<int32_t>(tokens)} {
    std::minstd_rand random(1);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    for (float& value : x_) value = uniform(random);
    std::iota(slots_.begin(), slots_.end(), 0);
  }

  absl::Status Run() {
    const char* const weights = memory_ + next_expert_ * ExpertProbeBytes(spec_);
    next_expert_ = (next_expert_ + 1) % num_experts_;
    const FfnWeights expert = {
        {weights, &kFormat, 2 * spec_.intermediate_size, spec_.hidden_size},
        {weights + GateUpBytes(spec_), &kFormat, spec_.hidden_size, spec_.intermediate_size}};
    MoeFfnArgs args;
    args.x = TensorView::Make(x_.data(), DType::kF32, {tokens_, spec_.hidden_size});
    args.y = TensorView::Make(y_.data(), DType::kF32, {tokens_, spec_.hidden_size});
    args.experts = {&expert, 1};
    args.routing.expert_ids = TensorView::Make(expert_ids_.data(), DType::kI32, {tokens_, 1});
    args.routing.gates = TensorView::Make(gates_.data(), DType::kF32, {tokens_, 1});
    args.routing.expert_offsets = TensorView::Make(offsets_.data(), DType::kI32, {2});
    args.routing.slot_tokens = TensorView::Make(slots_.data(), DType::kI32, {tokens_});
    args.routing.token_slots = TensorView::Make(slots_.data(), DType::kI32, {tokens_, 1});
    return backend_.MoeFfn(args, *stream_);
  }

 private:
  const ExpertProbeSpec& spec_;
  Backend& backend_;
  const std::unique_ptr<Stream> stream_;
  const int64_t tokens_;
  const char* const memory_;
  const int64_t num_experts_;
  int64_t next_expert_ = 0;
  std::vector<float> x_, y_, gates_;
  std::vector<int32_t> expert_ids_, slots_, offsets_;
};

}  // namespace

int64_t ExpertProbeBytes(const ExpertProbeSpec& spec) {
  return GateUpBytes(spec) + DownBytes(spec);
}

int64_t ExpertProbeFlops(const ExpertProbeSpec& spec, int64_t tokens) {
  // A multiplication and an addition for every weight of the three projections.
  return 2 * 3 * tokens * spec.hidden_size * spec.intermediate_size;
}

absl::StatusOr<ExpertRates> MeasureExperts(const ExpertProbeSpec& spec,
                                           const CpuProbeOptions& options, CopyLoad* copies,
                                           const std::function<void(const ExpertRate&)>& on_row) {
  RETURN_IF_ERROR(CheckSpec(spec, options));
  ASSIGN_OR_RETURN(const std::vector<ProbedBackend> backends,
                   CreateProbedBackends(options, Limits(spec)));
  const int64_t expert_bytes = ExpertProbeBytes(spec);
  ParallelRunner runner(options.threads);
  ASSIGN_OR_RETURN(const std::unique_ptr<ProbeMemory> memory,
                   ProbeMemory::Create(
                       expert_bytes * NumColdPieces(expert_bytes, options.memory_bytes), runner));
  ExpertRates rates;
  rates.info = {runner.num_threads(), runner.is_pinned(), LastLevelCacheBytes(), memory->bytes()};
  for (const ProbedBackend& probed : backends) {
    CpuRoofs roofs(*probed.isa, *memory, options.turn_seconds / 2, runner);
    for (const int64_t tokens : spec.tokens) {
      ExpertCalls calls(spec, tokens, *memory, *probed.backend);
      const ProbedCall call = {expert_bytes, ExpertProbeFlops(spec, tokens),
                               [&calls] { return calls.Run(); }};
      ASSIGN_OR_RETURN(KernelRate rate, MeasureInTurns(call, options.turn_seconds, roofs, copies));
      rates.rows.push_back({tokens, std::move(rate)});
      if (on_row) on_row(rates.rows.back());
    }
  }
  return rates;
}

}  // namespace moelight
