// Random weights for benchmarks, with routing balanced as a trained model's is.
//
// Why naive random weights collapse: if layers add about as much to the hidden state as the
// embedding put there, the part that all tokens share (the mean over the context, the mean output
// of the experts) grows from layer to layer until every token looks alike, and the router sends all
// of them to the same experts. Four choices keep every expert's share near num_experts_per_tok /
// num_experts at every depth:
//  - Embedding rows are independent with variance 1, so different tokens are nearly orthogonal.
//  - Every projection of a normalized hidden state has outputs of variance about 1, and what all
//    attention and FFN blocks together add to the hidden state has variance kAddedVariance, divided
//    evenly. The hidden state therefore stays O(1) and mostly the token's own at any depth, while
//    the added part still depends on the context.
//  - Router rows are random signs, so all have exactly the same norm, and are nearly orthogonal: no
//    expert has an advantage over the others for a hidden state of random direction. Logits have
//    variance 1, which gives gates like a trained model's.
//  - The final norm flips random signs. Otherwise a tied LM head would always choose the token just
//    read, and the batch would soon hold few different tokens.
#include <algorithm>
#include <cmath>
#include <utility>

#include <absl/strings/string_view.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/model/tensor_source.h"

namespace moelight {
namespace {

constexpr double kAddedVariance = 0.25;  // of all layers together; the embedding has 1

// Standard deviation of silu(g) * u for independent standard normal g and u: sqrt(E[silu(g)^2]).
constexpr double kSwiGluDeviation = 0.596;

// FNV-1a: the same on every machine and in every release, unlike absl::Hash.
uint64_t HashName(absl::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

// The finalizer of SplitMix64 (Steele et al. 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// 32 random bits for one column of the row with `key`. Only 32-bit operations, so that compilers
// vectorize it; the second half of the key enters between the rounds, so that two rows never are
// shifted copies of each other.
uint32_t ColumnBits(uint64_t key, uint32_t col) {
  uint32_t x = col + static_cast<uint32_t>(key);
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x += static_cast<uint32_t>(key >> 32);
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// Nearly normal with mean 0: the sum of four uniform bytes.
void FillNormal(uint64_t key, double deviation, int64_t n, float* out) {
  // Each byte has variance (256^2 - 1) / 12 and mean 127.5.
  const float scale = static_cast<float>(deviation / std::sqrt(4 * 65535 / 12.0));
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = ColumnBits(key, static_cast<uint32_t>(i));
    const int32_t sum = static_cast<int32_t>((bits & 255) + ((bits >> 8) & 255) +
                                             ((bits >> 16) & 255) + (bits >> 24));
    out[i] = static_cast<float>(sum - 510) * scale;
  }
}

void FillSigns(uint64_t key, double magnitude, int64_t n, float* out) {
  const float value = static_cast<float>(magnitude);
  for (int64_t i = 0; i < n; ++i) {
    out[i] = ColumnBits(key, static_cast<uint32_t>(i)) >> 31 ? -value : value;
  }
}

class DummySource : public TensorSource {
 public:
  DummySource(const Architecture& architecture, const ModelConfig& config, uint64_t seed)
      : names_(architecture.tensor_names.front()), seed_(Mix(seed)) {
    // Two blocks a layer add to the hidden state.
    block_deviation_ = std::sqrt(kAddedVariance / (2.0 * config.num_hidden_layers));
    const double logit_scale =
        config.tie_word_embeddings ? 1 / std::sqrt(static_cast<double>(config.hidden_size)) : 1.0;
    final_norm_ = logit_scale;
  }

  const TensorNames& names() const override { return names_; }

  absl::Status Check(absl::Span<const WeightPart>, Logger&) const override {
    return absl::OkStatus();
  }

  absl::StatusOr<TensorView> ReadRows(const WeightPart& part, int64_t row, int64_t num_rows,
                                      std::byte* scratch) const override {
    const TensorView rows = TensorView::Make(scratch, DType::kF32, {num_rows, part.num_cols});
    const uint64_t tensor_key = HashName(part.tensor) ^ seed_;
    for (int64_t i = 0; i < num_rows; ++i) {
      const uint64_t key = Mix(tensor_key + static_cast<uint64_t>(part.source_row + row + i));
      FillRow(part.role, key, part.num_cols, rows.as<float>() + i * part.num_cols);
    }
    return rows;
  }

 private:
  void FillRow(TensorRole role, uint64_t key, int64_t n, float* out) const {
    const double fan_in = 1 / std::sqrt(static_cast<double>(n));
    switch (role) {
      case TensorRole::kEmbed:
        return FillNormal(key, 1, n, out);
      case TensorRole::kNorm:
        std::fill(out, out + n, 1.0f);
        return;
      case TensorRole::kFinalNorm:
        return FillSigns(key, final_norm_, n, out);
      case TensorRole::kProjection:
      case TensorRole::kLmHead:
        return FillNormal(key, fan_in, n, out);
      case TensorRole::kAttentionOutput:
        return FillNormal(key, block_deviation_ * fan_in, n, out);
      case TensorRole::kFfnOutput:
        return FillNormal(key, block_deviation_ * fan_in / kSwiGluDeviation, n, out);
      case TensorRole::kRouter:
        return FillSigns(key, fan_in, n, out);
    }
  }

  const TensorNames& names_;
  const uint64_t seed_;
  double block_deviation_ = 0;  // of what one block adds to an element of the hidden state
  double final_norm_ = 0;       // magnitude of the final norm's weights
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> MakeDummySource(const ModelConfig& config,
                                                              uint64_t seed) {
  ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(config.architecture));
  return std::make_unique<DummySource>(*architecture, config, seed);
}

}  // namespace moelight
