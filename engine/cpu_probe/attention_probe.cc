#include "engine/cpu_probe/attention_probe.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/backend/backend.h"
#include "engine/base/parallel.h"
#include "engine/base/status_macros.h"
#include "engine/cpu_probe/probe_memory.h"

namespace moelight {
namespace {

using Shape = AttentionProbeSpec::Shape;

// --- Sizes. ---

HeadGeometry Heads(const AttentionProbeSpec& spec) {
  return {spec.num_attention_heads, spec.num_key_value_heads, spec.head_dim};
}

int64_t PagesPerSequence(const AttentionProbeSpec& spec, const Shape& shape) {
  return (shape.context + spec.page_tokens - 1) / spec.page_tokens;
}

// One position of one head, K or V. The format's name has been checked.
int64_t ProbedRowBytes(const AttentionProbeSpec& spec) {
  return KvRowBytes(*ParseKvFormat(spec.kv_format), spec.head_dim);
}

int64_t LayerBytes(const AttentionProbeSpec& spec, const Shape& shape) {
  const int64_t page_bytes = 2 * ProbedRowBytes(spec) * spec.num_key_value_heads * spec.page_tokens;
  return shape.batch * PagesPerSequence(spec, shape) * page_bytes;
}

OpLimits Limits(const AttentionProbeSpec& spec) {
  OpLimits limits;
  for (const Shape& shape : spec.shapes) {
    limits.max_tokens = std::max<int64_t>(limits.max_tokens, shape.batch);
    limits.max_model_len = std::max<int64_t>(limits.max_model_len, shape.context);
  }
  limits.max_sequences = limits.max_tokens;
  limits.heads = Heads(spec);
  return limits;
}

absl::Status CheckSpec(const AttentionProbeSpec& spec, const CpuProbeOptions& options) {
  RETURN_IF_ERROR(ParseKvFormat(spec.kv_format).status());
  if (spec.num_key_value_heads < 1 || spec.num_attention_heads < spec.num_key_value_heads ||
      spec.num_attention_heads % spec.num_key_value_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(spec.num_attention_heads,
                                                   " query heads cannot share ",
                                                   spec.num_key_value_heads, " KV heads evenly"));
  }
  if (spec.page_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat("pages of ", spec.page_tokens, " tokens"));
  }
  if (spec.shapes.empty()) return absl::InvalidArgumentError("no shape to measure");
  for (const Shape& shape : spec.shapes) {
    if (shape.context < 1 || shape.batch < 1) {
      return absl::InvalidArgumentError(absl::StrCat("context ", shape.context, " x batch ",
                                                     shape.batch, ": both must be at least 1"));
    }
    const int64_t layer_bytes = LayerBytes(spec, shape);
    if (layer_bytes > options.memory_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("context ", shape.context, " x batch ", shape.batch, " needs ", layer_bytes,
                       " bytes of KV, and the probe may take ", options.memory_bytes));
    }
  }
  return absl::OkStatus();
}

// --- One shape. ---

// Decode calls of one shape that go round the layers which the memory holds.
class DecodeCalls {
 public:
  DecodeCalls(const AttentionProbeSpec& spec, const Shape& shape, const ProbeMemory& memory,
              Backend& backend)
      : spec_(spec),
        backend_(backend),
        stream_(backend.CreateStream(Lane::kCpu)),
        heads_(Heads(spec)),
        layer_bytes_(LayerBytes(spec, shape)),
        num_layers_(NumColdPieces(layer_bytes_, memory.bytes())),
        memory_(memory.data()),
        qkv_(shape.batch * heads_.qkv_size()),
        out_(shape.batch * heads_.q_size()),
        block_tables_(shape.batch * PagesPerSequence(spec, shape)) {
    std::minstd_rand random(1);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    for (float& value : qkv_) value = uniform(random);
    // Pages of a sequence lie as far from each other as after a long run.
    std::iota(block_tables_.begin(), block_tables_.end(), 0);
    std::shuffle(block_tables_.begin(), block_tables_.end(), random);
    for (int32_t s = 0; s < shape.batch; ++s) {
      sequences_.push_back({s, /*num_tokens=*/1, /*num_cached_tokens=*/shape.context - 1,
                            block_tables_.data() + s * PagesPerSequence(spec, shape)});
    }
  }

  absl::Status Run() {
    AttentionArgs args;
    const int64_t batch = static_cast<int64_t>(sequences_.size());
    args.qkv = TensorView::Make(qkv_.data(), DType::kF32, {batch, heads_.qkv_size()});
    args.heads = heads_;
    args.sequences = sequences_;
    args.kv.data = memory_ + next_layer_ * layer_bytes_;
    args.kv.dtype = backend_.kv_dtype();
    args.kv.num_pages = static_cast<int64_t>(block_tables_.size());
    args.kv.page_tokens = spec_.page_tokens;
    args.scale = 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
    args.out = TensorView::Make(out_.data(), DType::kF32, {batch, heads_.q_size()});
    next_layer_ = (next_layer_ + 1) % num_layers_;
    return backend_.Attention(args, *stream_);
  }

 private:
  const AttentionProbeSpec& spec_;
  Backend& backend_;
  const std::unique_ptr<Stream> stream_;
  const HeadGeometry heads_;
  const int64_t layer_bytes_;
  const int64_t num_layers_;
  int64_t next_layer_ = 0;
  char* const memory_;
  std::vector<float> qkv_;
  std::vector<float> out_;
  std::vector<int32_t> block_tables_;
  std::vector<AttentionSequence> sequences_;
};

}  // namespace

int64_t AttentionProbeBytes(const AttentionProbeSpec& spec, const Shape& shape) {
  return 2 * ProbedRowBytes(spec) * spec.num_key_value_heads * shape.context * shape.batch;
}

int64_t AttentionProbeFlops(const AttentionProbeSpec& spec, const Shape& shape) {
  // A multiplication and an addition for every element of K, and for every element of V.
  return int64_t{2} * 2 * spec.num_attention_heads * spec.head_dim * shape.context * shape.batch;
}

absl::StatusOr<AttentionRates> MeasureAttention(
    const AttentionProbeSpec& spec, const CpuProbeOptions& options, CopyLoad* copies,
    const std::function<void(const AttentionRate&)>& on_row) {
  RETURN_IF_ERROR(CheckSpec(spec, options));
  ASSIGN_OR_RETURN(const std::vector<ProbedBackend> backends,
                   CreateProbedBackends(options, Limits(spec), spec.kv_format));
  int64_t memory_bytes = 0;
  for (const Shape& shape : spec.shapes) {
    const int64_t layer_bytes = LayerBytes(spec, shape);
    memory_bytes =
        std::max(memory_bytes, layer_bytes * NumColdPieces(layer_bytes, options.memory_bytes));
  }
  ParallelRunner runner(options.threads);
  ASSIGN_OR_RETURN(const std::unique_ptr<ProbeMemory> memory,
                   ProbeMemory::Create(memory_bytes, runner));
  AttentionRates rates;
  rates.info = {runner.num_threads(), runner.is_pinned(), LastLevelCacheBytes(), memory->bytes()};
  for (const ProbedBackend& probed : backends) {
    CpuRoofs roofs(*probed.isa, *memory, options.turn_seconds / 2, runner);
    for (const Shape& shape : spec.shapes) {
      DecodeCalls calls(spec, shape, *memory, *probed.backend);
      const ProbedCall call = {AttentionProbeBytes(spec, shape), AttentionProbeFlops(spec, shape),
                               [&calls] { return calls.Run(); }};
      ASSIGN_OR_RETURN(KernelRate rate, MeasureInTurns(call, options.turn_seconds, roofs, copies));
      rates.rows.push_back({shape, std::move(rate)});
      if (on_row) on_row(rates.rows.back());
    }
  }
  return rates;
}

}  // namespace moelight
