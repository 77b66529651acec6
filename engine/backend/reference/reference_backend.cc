#include "engine/backend/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/backend/formats/elements.h"
#include "engine/backend/formats/f32.h"
#include "engine/backend/host_copy.h"
#include "engine/backend/inline_stream.h"
#include "engine/backend/op_checks.h"
#include "engine/backend/paged_experts.h"
#include "engine/backend/routing_slots.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

float Dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

const float* WeightRow(const WeightMatrix& weight, int64_t row) {
  return static_cast<const float*>(weight.data) + row * weight.num_cols;
}

void NormRow(const float* x, const float* weight, int64_t n, float epsilon, float* y) {
  const float scale = 1.0f / std::sqrt(Dot(x, x, n) / static_cast<float>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

// In place. `sink`, if there is one, is a further score that only takes its share.
void SoftmaxRow(float* x, int64_t n, const float* sink = nullptr) {
  float max = *std::max_element(x, x + n);
  if (sink != nullptr) max = std::max(max, *sink);
  float sum = sink != nullptr ? std::exp(*sink - max) : 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - max);
    sum += x[i];
  }
  for (int64_t i = 0; i < n; ++i) x[i] /= sum;
}

// In place on one head.
void RopeRow(float* head, int64_t head_dim, int32_t position, const float* inv_freq) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * inv_freq[i];
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * std::cos(angle) - b * std::sin(angle);
    head[i + half] = b * std::cos(angle) + a * std::sin(angle);
  }
}

// K (part 0) or V (part 1) of one position of one head.
struct CacheRow {
  CacheRow(const AttentionArgs& args, const AttentionSequence& sequence, int part, int64_t kv_head,
           int32_t position)
      : head_dim(args.heads.head_dim), dtype(args.kv.dtype) {
    const int32_t page = sequence.block_table[position / args.kv.page_tokens];
    CHECK(page >= 0 && page < args.kv.num_pages) << "page " << page << " of " << args.kv.num_pages;
    const int64_t row = position % args.kv.page_tokens;
    const int64_t row_bytes = head_dim * DTypeBytes(dtype);
    char* const block =
        static_cast<char*>(args.kv.data) + page * args.kv.page_bytes(args.heads) +
        (part * args.heads.num_key_value_heads + kv_head) * args.kv.block_bytes(args.heads);
    elements = block + row * row_bytes;
    scale = reinterpret_cast<float*>(block + args.kv.page_tokens * row_bytes) + row;
  }
  void Store(const float* x) const { StoreKvRow(x, head_dim, dtype, elements, scale); }
  void Load(float* x) const { LoadKvRow(elements, scale, head_dim, dtype, x); }

  int32_t head_dim;
  DType dtype;
  void* elements;
  float* scale;  // of int8 only
};

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(DType kv_dtype) : kv_dtype_(kv_dtype) {}
  absl::string_view name() const override { return "reference"; }
  std::string description() const override { return "reference (fp32, 1 thread)"; }
  DType activation_dtype() const override { return DType::kF32; }
  DType kv_dtype() const override { return kv_dtype_; }
  DType embedding_dtype() const override { return DType::kF32; }
  const WeightFormat& weight_format() const override { return kF32Format; }

  std::unique_ptr<Stream> CreateStream(Lane) override { return std::make_unique<InlineStream>(); }

  int64_t scratch_bytes(const OpLimits& limits) const override {
    return ScratchElements(limits) * static_cast<int64_t>(sizeof(float));
  }
  absl::Status Reserve(const OpLimits& limits) override {
    scratch_.resize(ScratchElements(limits));
    return absl::OkStatus();
  }

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
  // The scores of one query and a row of the cache, the logits of one token, or the hidden row of
  // one expert.
  static int64_t ScratchElements(const OpLimits& limits) {
    return std::max({limits.max_model_len + limits.heads.head_dim, limits.num_experts,
                     limits.max_intermediate_size});
  }
  float* Scratch(int64_t num_elements) {
    CHECK_LE(num_elements, static_cast<int64_t>(scratch_.size())) << "beyond Reserve()";
    return scratch_.data();
  }
  void AttendToken(const AttentionArgs& args, const AttentionSequence& sequence, int32_t token);
  // y += gate * Ffn(x) for one row.
  void AddFfnRow(const FfnWeights& weights, const float* x, float gate, float* y);

  const DType kv_dtype_;
  std::vector<float> scratch_;
  PagedExperts paged_experts_;
};

absl::Status ReferenceBackend::Embed(const EmbedArgs& args, Stream&) {
  CheckEmbed(args, *this);
  const int64_t hidden_size = args.table.dim(1);
  float* y = args.y.as<float>();
  for (const int64_t id : args.token_ids) {
    for (int64_t i = 0; i < hidden_size; ++i) {
      *y++ = ElementAsFloat(args.table, id * hidden_size + i);
    }
  }
  return absl::OkStatus();
}

absl::Status ReferenceBackend::RmsNorm(const RmsNormArgs& args, Stream&) {
  CheckRmsNorm(args, *this);
  const int64_t n = args.x.dim(1);
  for (int64_t t = 0; t < args.x.dim(0); ++t) {
    NormRow(args.x.as<float>() + t * n, args.weight.as<float>(), n, args.epsilon,
            args.y.as<float>() + t * n);
  }
  return absl::OkStatus();
}

absl::Status ReferenceBackend::MatMul(const MatMulArgs& args, Stream&) {
  CheckMatMul(args, *this);
  const WeightMatrix& w = args.weight;
  float* y = args.y.as<float>();
  for (int64_t t = 0; t < args.x.dim(0); ++t) {
    const float* x = args.x.as<float>() + t * w.num_cols;
    for (int64_t r = 0; r < w.num_rows; ++r, ++y) {
      *y = (args.accumulate ? *y : 0.0f) + Dot(x, WeightRow(w, r), w.num_cols);
    }
  }
  return absl::OkStatus();
}

absl::Status ReferenceBackend::QkNormRope(const QkNormRopeArgs& args, Stream&) {
  CheckQkNormRope(args, *this);
  const HeadGeometry& heads = args.heads;
  for (int64_t t = 0; t < args.qkv.dim(0); ++t) {
    float* row = args.qkv.as<float>() + t * heads.qkv_size();
    for (int32_t h = 0; h < heads.num_attention_heads + heads.num_key_value_heads; ++h) {
      float* head = row + int64_t{h} * heads.head_dim;
      const TensorView& norm = h < heads.num_attention_heads ? args.q_norm : args.k_norm;
      if (norm.defined()) NormRow(head, norm.as<float>(), heads.head_dim, args.epsilon, head);
      RopeRow(head, heads.head_dim, args.positions[t], args.inv_freq.as<float>());
    }
  }
  return absl::OkStatus();
}

absl::Status ReferenceBackend::Attention(const AttentionArgs& args, Stream&) {
  CheckAttention(args, *this);
  const HeadGeometry& heads = args.heads;
  for (const AttentionSequence& sequence : args.sequences) {
    for (int32_t token = 0; token < sequence.num_tokens; ++token) {
      const float* qkv =
          args.qkv.as<float>() + int64_t{sequence.first_row + token} * heads.qkv_size();
      for (int64_t h = 0; h < heads.num_key_value_heads; ++h) {
        for (int part = 0; part < 2; ++part) {
          const float* from = qkv + heads.q_size() + part * heads.kv_size() + h * heads.head_dim;
          CacheRow(args, sequence, part, h, sequence.num_cached_tokens + token).Store(from);
        }
      }
      AttendToken(args, sequence, token);
    }
  }
  return absl::OkStatus();
}

void ReferenceBackend::AttendToken(const AttentionArgs& args, const AttentionSequence& sequence,
                                   int32_t token) {
  const HeadGeometry& heads = args.heads;
  const int64_t row = sequence.first_row + token;
  const int32_t position = sequence.num_cached_tokens + token;
  const int32_t first =
      args.sliding_window > 0 ? std::max(0, position + 1 - args.sliding_window) : 0;
  const int32_t num_keys = position + 1 - first;
  float* scores = Scratch(num_keys + heads.head_dim);
  float* cached = scores + num_keys;
  for (int32_t h = 0; h < heads.num_attention_heads; ++h) {
    const int32_t kv_head = h / (heads.num_attention_heads / heads.num_key_value_heads);
    const float* q = args.qkv.as<float>() + row * heads.qkv_size() + int64_t{h} * heads.head_dim;
    for (int32_t i = 0; i < num_keys; ++i) {
      CacheRow(args, sequence, 0, kv_head, first + i).Load(cached);
      scores[i] = args.scale * Dot(q, cached, heads.head_dim);
      if (args.soft_cap > 0) scores[i] = args.soft_cap * std::tanh(scores[i] / args.soft_cap);
    }
    const float* sink = args.sinks.defined() ? args.sinks.as<float>() + h : nullptr;
    SoftmaxRow(scores, num_keys, sink);
    float* out = args.out.as<float>() + row * heads.q_size() + int64_t{h} * heads.head_dim;
    std::fill_n(out, heads.head_dim, 0.0f);
    for (int32_t i = 0; i < num_keys; ++i) {
      CacheRow(args, sequence, 1, kv_head, first + i).Load(cached);
      for (int32_t d = 0; d < heads.head_dim; ++d) out[d] += scores[i] * cached[d];
    }
  }
}

absl::Status ReferenceBackend::Router(const RouterArgs& args, Stream&) {
  CheckRouter(args, *this);
  const int64_t hidden_size = args.x.dim(1);
  const int64_t num_experts = args.weight.dim(0);
  const int64_t num_kept = args.num_experts_per_tok;
  float* probabilities = Scratch(num_experts);
  for (int64_t t = 0; t < args.x.dim(0); ++t) {
    const float* x = args.x.as<float>() + t * hidden_size;
    for (int64_t e = 0; e < num_experts; ++e) {
      probabilities[e] = Dot(x, args.weight.as<float>() + e * hidden_size, hidden_size);
    }
    SoftmaxRow(probabilities, num_experts);
    int32_t* ids = args.routing.expert_ids.as<int32_t>() + t * num_kept;
    float* gates = args.routing.gates.as<float>() + t * num_kept;
    float sum = 0;
    for (int64_t k = 0; k < num_kept; ++k) {
      // The first of the largest; what was taken is below every probability.
      float* best = std::max_element(probabilities, probabilities + num_experts);
      ids[k] = static_cast<int32_t>(best - probabilities);
      gates[k] = *best;
      sum += *best;
      *best = -1.0f;
    }
    if (!args.norm_topk_prob) continue;
    for (int64_t k = 0; k < num_kept; ++k) gates[k] /= sum;
  }
  FillRoutingSlots(args.routing, num_experts);
  return absl::OkStatus();
}

void ReferenceBackend::AddFfnRow(const FfnWeights& weights, const float* x, float gate, float* y) {
  const int64_t hidden_size = weights.gate_up.num_cols;
  const int64_t intermediate_size = weights.down.num_cols;
  float* h = Scratch(intermediate_size);
  for (int64_t i = 0; i < intermediate_size; ++i) {
    const float g = Dot(x, WeightRow(weights.gate_up, i), hidden_size);
    const float u = Dot(x, WeightRow(weights.gate_up, intermediate_size + i), hidden_size);
    h[i] = g / (1.0f + std::exp(-g)) * u;
  }
  for (int64_t r = 0; r < hidden_size; ++r) {
    y[r] += gate * Dot(h, WeightRow(weights.down, r), intermediate_size);
  }
}

absl::Status ReferenceBackend::MoeFfn(const MoeFfnArgs& args, Stream&) {
  CheckMoeFfn(args, *this);
  const int64_t hidden_size = args.x.dim(1);
  const int64_t num_kept = args.routing.expert_ids.dim(1);
  const absl::Span<const FfnWeights> experts = paged_experts_.Gather(args);
  for (int64_t t = 0; t < args.x.dim(0); ++t) {
    for (int64_t k = t * num_kept; k < (t + 1) * num_kept; ++k) {
      AddFfnRow(experts[args.routing.expert_ids.as<int32_t>()[k]],
                args.x.as<float>() + t * hidden_size, args.routing.gates.as<float>()[k],
                args.y.as<float>() + t * hidden_size);
    }
  }
  return absl::OkStatus();
}

absl::Status ReferenceBackend::DenseFfn(const DenseFfnArgs& args, Stream&) {
  CheckDenseFfn(args, *this);
  const int64_t hidden_size = args.x.dim(1);
  for (int64_t t = 0; t < args.x.dim(0); ++t) {
    AddFfnRow(args.weights, args.x.as<float>() + t * hidden_size, 1.0f,
              args.y.as<float>() + t * hidden_size);
  }
  return absl::OkStatus();
}

absl::Status ReferenceBackend::GatherRows(const GatherRowsArgs& args, Stream&) {
  CheckGatherRows(args, *this);
  const int64_t n = args.x.dim(1);
  float* y = args.y.as<float>();
  for (const int64_t row : args.rows) y = std::copy_n(args.x.as<float>() + row * n, n, y);
  return absl::OkStatus();
}

absl::Status ReferenceBackend::Copy(const TensorView& src, const TensorView& dst, Stream&) {
  CopyOnHost(src, dst);
  return absl::OkStatus();
}

absl::Status ReferenceBackend::CopyPages(const CopyPagesArgs& args, Stream&) {
  CopyPagesOnHost(args);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateReferenceBackend(const BackendOptions& options) {
  if (!options.isa.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the reference backend has no isa variants, but isa is \"", options.isa, "\""));
  }
  DType kv_dtype = DType::kF32;
  if (!options.kv_format.empty()) {
    ASSIGN_OR_RETURN(kv_dtype, ParseKvFormat(options.kv_format));
  }
  return std::make_unique<ReferenceBackend>(kv_dtype);
}

}  // namespace moelight
