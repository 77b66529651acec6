// Time of one sampled token, by vocabulary and parameters. The roof is one read of the logits:
// bytes_per_second is counted on vocab_size floats, to be compared with the host's read bandwidth.
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "engine/sampling/sampler.h"

namespace moelight {
namespace {

// Logits like a trained model's: a wide bulk and a few tokens well above it.
std::vector<float> PeakedLogits(int vocab_size) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(vocab_size);
  for (float& logit : logits) logit = normal(random);
  for (int i = 0; i < 20; ++i) logits[random() % vocab_size] += 18;
  return logits;
}

void Run(benchmark::State& state, const SamplingParams& params) {
  const int vocab_size = static_cast<int>(state.range(0));
  std::vector<float> logits = PeakedLogits(vocab_size);
  SequenceSampler sampler(params, {}, 1, 0, vocab_size, {});
  SamplerScratch scratch;
  for (auto _ : state) {
    benchmark::DoNotOptimize(sampler.Sample(absl::MakeSpan(logits), scratch));
  }
  state.SetBytesProcessed(state.iterations() * vocab_size * static_cast<int64_t>(sizeof(float)));
}

void BM_Greedy(benchmark::State& state) {
  SamplingParams params;
  params.temperature = 0.0f;
  Run(state, params);
}

void BM_GreedyLogprobs(benchmark::State& state) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.logprobs = 20;
  Run(state, params);
}

void BM_Temperature(benchmark::State& state) { Run(state, {}); }

void BM_TopP(benchmark::State& state) {
  SamplingParams params;
  params.top_p = 0.95f;
  Run(state, params);
}

// Nearly flat: the worst case of top_p.
void BM_TopPFlat(benchmark::State& state) {
  SamplingParams params;
  params.top_p = 0.95f;
  params.temperature = 2.0f;
  Run(state, params);
}

void BM_TopKTopP(benchmark::State& state) {
  SamplingParams params;
  params.top_k = 20;
  params.top_p = 0.95f;
  Run(state, params);
}

BENCHMARK(BM_Greedy)->Arg(1024)->Arg(151936);
BENCHMARK(BM_GreedyLogprobs)->Arg(1024)->Arg(151936);
BENCHMARK(BM_Temperature)->Arg(1024)->Arg(151936);
BENCHMARK(BM_TopP)->Arg(1024)->Arg(151936);
BENCHMARK(BM_TopPFlat)->Arg(1024)->Arg(151936);
BENCHMARK(BM_TopKTopP)->Arg(1024)->Arg(151936);

}  // namespace
}  // namespace moelight
