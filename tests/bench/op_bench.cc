// op_bench [num_threads] [num_tokens] [context] [isa]: microseconds of every op of one decode step
// of the demo model, and of the step.
//
// The step runs as the engine runs it, layer after layer on the KV cache and weights of each, so
// that caches are as cold as they will be. Medians over steps.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>

#include "tests/bench/bench_util.h"

namespace moelight {
namespace {

// deploy/demo/model/config.json
constexpr int64_t kHidden = 128;
constexpr int64_t kIntermediate = 224;
constexpr int64_t kExperts = 8;
constexpr int64_t kTopK = 2;
constexpr int64_t kLayers = 5;
constexpr int64_t kVocab = 1024;
constexpr HeadGeometry kHeads = {4, 2, 32};
constexpr int32_t kPageTokens = 16;
constexpr int kSteps = 200;

struct Layer {
  explicit Layer(const WeightFormat& format)
      : qkv(format, kHeads.qkv_size(), kHidden), out(format, kHidden, kHeads.q_size()) {
    router = RandomFloats(kExperts * kHidden, 0.3f, 5);
    for (int64_t e = 0; e < kExperts; ++e) {
      gate_up.emplace_back(format, 2 * kIntermediate, kHidden);
      down.emplace_back(format, kHidden, kIntermediate);
      experts.push_back({gate_up.back().matrix(), down.back().matrix()});
    }
  }
  BenchWeight qkv, out;
  std::vector<float> router;
  std::vector<BenchWeight> gate_up, down;
  std::vector<FfnWeights> experts;
  std::vector<uint16_t> kv;
};

class DecodeStep {
 public:
  DecodeStep(Backend& backend, int64_t num_tokens, int32_t context)
      : backend_(backend),
        stream_(backend.CreateStream(Lane::kGpu)),
        num_tokens_(num_tokens),
        lm_head_(backend.weight_format(), kVocab, kHidden),
        ids_(num_tokens),
        positions_(num_tokens, context),
        table_(kVocab * kHidden, 0x3c00),
        norm_(kHidden, 1.0f),
        x_(num_tokens * kHidden),
        normed_(num_tokens * kHidden),
        qkv_(num_tokens * kHeads.qkv_size()),
        attended_(num_tokens * kHeads.q_size()),
        logits_(num_tokens * kVocab) {
    for (int64_t t = 0; t < num_tokens; ++t) ids_[t] = static_cast<int32_t>(t * 37 % kVocab);
    const int32_t pages = context / kPageTokens + 1;
    kv_view_.dtype = backend.kv_dtype();
    kv_view_.page_tokens = kPageTokens;
    kv_view_.num_pages = num_tokens * pages;
    CHECK(kv_view_.dtype == DType::kBF16);
    for (int64_t t = 0; t < num_tokens; ++t) {
      std::vector<int32_t> table(pages);
      for (int32_t p = 0; p < pages; ++p) {
        table[p] = static_cast<int32_t>(p * num_tokens + t);  // scattered, as after a long run
      }
      block_tables_.push_back(std::move(table));
      sequences_.push_back({static_cast<int32_t>(t), 1, context, block_tables_.back().data()});
    }
    for (int64_t i = 0; i < kLayers; ++i) {
      layers_.emplace_back(backend.weight_format());
      layers_.back().kv.assign(kv_view_.num_pages * kv_view_.page_bytes(kHeads) / 2, 0x3c00);
    }
    for (int32_t i = 0; i < kHeads.head_dim / 2; ++i) {
      inv_freq_.push_back(std::pow(10000.0f, -2.0f * i / kHeads.head_dim));
    }
    const std::vector<float> embeddings = RandomFloats(kVocab * kHidden, 1.0f, 3);
    for (size_t i = 0; i < table_.size(); ++i) {
      table_[i] = BFloat16::FromFloat(embeddings[i]).bits;
    }
    expert_ids_.resize(num_tokens * kTopK);
    token_slots_.resize(num_tokens * kTopK);
    slot_tokens_.resize(num_tokens * kTopK);
    gates_.resize(num_tokens * kTopK);
    offsets_.resize(kExperts + 1);
  }

  void Run() {
    const TensorView x = Rows(x_, kHidden);
    const TensorView normed = Rows(normed_, kHidden);
    const TensorView qkv = Rows(qkv_, kHeads.qkv_size());
    const TensorView attended = Rows(attended_, kHeads.q_size());
    const TensorView norm = TensorView::Make(norm_.data(), DType::kF32, {kHidden});
    const TensorView table = TensorView::Make(table_.data(), DType::kBF16, {kVocab, kHidden});
    Time("Embed", [&] { return backend_.Embed({ids_, table, x}, *stream_); });
    for (Layer& layer : layers_) {
      Time("RmsNorm", [&] { return backend_.RmsNorm({x, norm, 1e-5f, normed}, *stream_); });
      Time("MatMul qkv", [&] {
        return backend_.MatMul({normed, layer.qkv.matrix(), qkv, false}, *stream_);
      });
      RunAttention(layer, qkv, attended);
      Time("MatMul out", [&] {
        return backend_.MatMul({attended, layer.out.matrix(), x, true}, *stream_);
      });
      Time("RmsNorm", [&] { return backend_.RmsNorm({x, norm, 1e-5f, normed}, *stream_); });
      RunExperts(layer, normed, x);
    }
    Time("RmsNorm", [&] { return backend_.RmsNorm({x, norm, 1e-5f, normed}, *stream_); });
    Time("MatMul lm_head", [&] {
      return backend_.MatMul({normed, lm_head_.matrix(), Rows(logits_, kVocab), false}, *stream_);
    });
    for (auto& [op, times] : microseconds_) {
      times.push_back(current_[op]);
      current_[op] = 0;
    }
  }

  // Prints the median per step of every op, and returns their sum.
  double Print() {
    double sum = 0;
    for (auto& [op, times] : microseconds_) {
      std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
      const double median = times[times.size() / 2];
      std::printf("  %-16s %8.1f us\n", op.c_str(), median);
      sum += median;
    }
    return sum;
  }

 private:
  TensorView Rows(std::vector<float>& values, int64_t cols) const {
    return TensorView::Make(values.data(), DType::kF32, {num_tokens_, cols});
  }

  template <typename Op>
  void Time(const std::string& op, const Op& run) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    const absl::Status status = run();
    CHECK(status.ok()) << status.ToString();
    const double us = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
    current_[op] += us;
    microseconds_[op];
  }

  void RunAttention(Layer& layer, const TensorView& qkv, const TensorView& attended) {
    QkNormRopeArgs rope;
    rope.qkv = qkv;
    rope.heads = kHeads;
    rope.positions = positions_;
    rope.inv_freq = TensorView::Make(inv_freq_.data(), DType::kF32, {kHeads.head_dim / 2});
    Time("QkNormRope", [&] { return backend_.QkNormRope(rope, *stream_); });
    AttentionArgs attention;
    attention.qkv = qkv;
    attention.heads = kHeads;
    attention.sequences = sequences_;
    attention.kv = kv_view_;
    attention.kv.data = layer.kv.data();
    attention.scale = 1.0f / std::sqrt(static_cast<float>(kHeads.head_dim));
    attention.out = attended;
    Time("Attention", [&] { return backend_.Attention(attention, *stream_); });
  }

  void RunExperts(Layer& layer, const TensorView& normed, const TensorView& x) {
    Routing routing;
    const int64_t num_slots = num_tokens_ * kTopK;
    routing.expert_ids = TensorView::Make(expert_ids_.data(), DType::kI32, {num_tokens_, kTopK});
    routing.token_slots = TensorView::Make(token_slots_.data(), DType::kI32, {num_tokens_, kTopK});
    routing.gates = TensorView::Make(gates_.data(), DType::kF32, {num_tokens_, kTopK});
    routing.slot_tokens = TensorView::Make(slot_tokens_.data(), DType::kI32, {num_slots});
    routing.expert_offsets = TensorView::Make(offsets_.data(), DType::kI32, {kExperts + 1});
    const TensorView weight =
        TensorView::Make(layer.router.data(), DType::kF32, {kExperts, kHidden});
    Time("Router", [&] {
      return backend_.Router({normed, weight, kTopK, true, routing}, *stream_);
    });
    Time("MoeFfn", [&] { return backend_.MoeFfn({normed, routing, layer.experts, x}, *stream_); });
  }

  Backend& backend_;
  std::unique_ptr<Stream> stream_;
  int64_t num_tokens_;
  std::vector<Layer> layers_;
  BenchWeight lm_head_;
  std::vector<int32_t> ids_, positions_;
  std::vector<uint16_t> table_;
  std::vector<float> norm_, inv_freq_;
  std::vector<float> x_, normed_, qkv_, attended_, logits_, gates_;
  std::vector<int32_t> expert_ids_, token_slots_, slot_tokens_, offsets_;
  KvLayerView kv_view_;
  std::vector<std::vector<int32_t>> block_tables_;
  std::vector<AttentionSequence> sequences_;
  std::map<std::string, double> current_;
  std::map<std::string, std::vector<double>> microseconds_;
};

int Main(int argc, char** argv) {
  const int num_threads =
      argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  const int64_t num_tokens = argc > 2 ? std::atoi(argv[2]) : 256;
  const int32_t context = argc > 3 ? std::atoi(argv[3]) : 100;
  auto backend = CreateBackend("cpu", {num_threads, argc > 4 ? argv[4] : ""});
  CHECK(backend.ok()) << backend.status().ToString();
  OpLimits limits;
  limits.max_tokens = num_tokens;
  limits.max_sequences = num_tokens;
  limits.hidden_size = kHidden;
  limits.max_intermediate_size = kIntermediate;
  limits.num_experts = kExperts;
  limits.num_experts_per_tok = kTopK;
  limits.max_model_len = context + 1;
  limits.max_matmul_rows = kVocab;
  limits.heads = kHeads;
  const absl::Status reserved = (*backend)->Reserve(limits);
  CHECK(reserved.ok()) << reserved.ToString();

  DecodeStep step(**backend, num_tokens, context);
  for (int i = 0; i < kSteps; ++i) step.Run();
  std::printf("%s: one decode step of the demo model, %ld sequences at context %d\n",
              (*backend)->description().c_str(), num_tokens, context);
  const double us = step.Print();
  const double macs_per_token = kLayers * (kHidden * (kHeads.qkv_size() + kHeads.q_size()) +
                                           3 * kTopK * kHidden * kIntermediate) +
                                kVocab * kHidden;
  const double kv_bytes = 2.0 * 2 * kLayers * kHeads.kv_size() * context * num_tokens;
  std::printf("  %-16s %8.1f us: %.0f tok/s, %.1f GFLOP/s in products, %.1f GB/s of KV\n", "step",
              us, num_tokens / us * 1e6, 2 * macs_per_token * num_tokens / us * 1e-3,
              kv_bytes / us * 1e-3);
  return 0;
}

}  // namespace
}  // namespace moelight

int main(int argc, char** argv) { return moelight::Main(argc, argv); }
