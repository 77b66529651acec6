// Goal: checkpoints give the logits and greedy tokens of the Hugging Face reference, on every
// backend, whatever the cut into micro-batches and the mix of prompts and decode tokens.
//
// Tolerances (design section 8): relative L2 of logits <= 1e-4 (fp32) or 2e-2 (bf16); greedy tokens
// equal up to the first token whose margin is below 0.005 (fp32) or 0.1 (bf16).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/backend/backend.h"
#include "engine/engine_plan.h"
#include "engine/model/model_config.h"
#include "engine/model/safetensors.h"
#include "engine/model/weight_loader.h"
#include "engine/pipeline/step_runner.h"
#include "engine/scheduler/scheduler.h"

namespace moelight {
namespace {

// Everything below the engine's queue, for one checkpoint on one backend.
struct Model {
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<ModelWeights> weights;
  std::unique_ptr<KvCache> kv_cache;
  std::unique_ptr<StepRunner> runner;

  static Model Load(const std::string& folder, const std::string& device, int kv_page_tokens) {
    Model m;
    m.config = *LoadModelConfig(folder);
    m.backend = *CreateBackend(device, {.num_threads = 2, .isa = ""});
    EngineOptions options;
    options.host_memory_bytes = int64_t{1} << 30;
    options.max_running_sequences = 64;
    options.max_step_tokens = 2048;
    options.kv_page_tokens = kv_page_tokens;
    EnginePlan plan = *MakeEnginePlan(options, m.config, *m.backend);
    m.weights =
        *LoadWeights(folder, m.config, {&m.backend->weight_format(), m.backend->embedding_dtype()},
                     LoadFormat::kSafetensors, 2, Logger::Null());
    EXPECT_TRUE(m.backend->Reserve(plan.op_limits).ok());
    m.kv_cache = *KvCache::Create(plan.kv_cache);
    return m;
  }
  // `config` must stay where it is from here on.
  void MakeRunner(int num_micro_batches) {
    EngineOptions options;
    options.host_memory_bytes = int64_t{1} << 30;
    options.max_running_sequences = 64;
    EnginePlan plan = *MakeEnginePlan(options, config, *backend);
    runner = *StepRunner::Create({plan.schedule, num_micro_batches, plan.activations}, config,
                                 *weights, *backend, *kv_cache);
  }
  void Admit(Sequence* sequence) {
    ASSERT_TRUE(kv_cache->Grow(sequence->max_tokens_total, &sequence->block_table));
  }
};

Sequence MakeSequence(const std::vector<TokenId>& tokens, int32_t max_new_tokens) {
  Sequence sequence;
  sequence.tokens = tokens;
  sequence.num_prompt_tokens = static_cast<int32_t>(tokens.size());
  sequence.max_tokens_total = sequence.num_prompt_tokens + max_new_tokens;
  return sequence;
}

// Of all rows together, as the reference stores them.
class RelativeL2 {
 public:
  void Add(absl::Span<const float> got, const float* want) {
    for (size_t i = 0; i < got.size(); ++i) {
      error_ += (got[i] - want[i]) * (got[i] - want[i]);
      norm_ += want[i] * want[i];
    }
  }
  double value() const { return std::sqrt(error_ / norm_); }

 private:
  double error_ = 0;
  double norm_ = 0;
};

struct Tolerance {
  const char* device;
  double logits;
  double margin;
};
void PrintTo(const Tolerance& t, std::ostream* out) { *out << t.device; }

using Parameters = std::tuple<std::string, Tolerance, int /*micro-batches*/>;

class GoldenTest : public testing::TestWithParam<Parameters> {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/models/", std::get<0>(GetParam()));
    tolerance_ = std::get<1>(GetParam());
    std::ifstream file(folder_ + "/golden.json");
    golden_ = nlohmann::json::parse(file);
    // Pages of 5 positions: boundaries fall in odd places.
    model_ = Model::Load(folder_, tolerance_.device, 5);
    model_.MakeRunner(std::get<2>(GetParam()));
    file_.emplace(*File::Open(folder_ + "/golden.safetensors"));
    tensors_ = *ReadSafetensorsHeader(*file_);
  }
  std::vector<std::vector<TokenId>> Prompts() const { return golden_["prompts"]; }
  std::vector<float> Reference(const std::string& name) const {
    const TensorInfo& info = tensors_.find(name)->second;
    std::vector<float> values(info.bytes / sizeof(float));
    EXPECT_TRUE(file_
                    ->ReadAt(info.begin, absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()),
                                                        info.bytes))
                    .ok());
    return values;
  }

  // Runs `batch` and compares the logits of its sequences with the rows of `want`.
  void ExpectLogits(Batch* batch, const std::vector<float>& want) {
    ASSERT_TRUE(model_.runner->Run(batch).ok());
    RelativeL2 error;
    for (int32_t i = 0; i < batch->num_sequences(); ++i) {
      error.Add(model_.runner->logits(i), &want[i * model_.config.vocab_size]);
    }
    RecordProperty("relative_l2", absl::StrCat(error.value()));
    EXPECT_LE(error.value(), tolerance_.logits);
  }

  std::string folder_;
  Tolerance tolerance_ = {};
  nlohmann::json golden_;
  Model model_;
  std::optional<File> file_;  // golden.safetensors
  TensorMap tensors_;
};

TEST_P(GoldenTest, LogitsAfterThePrompt) {
  const std::vector<float> want = Reference("last_logits");
  std::deque<Sequence> sequences;
  Batch batch;
  for (const auto& prompt : Prompts()) {
    sequences.push_back(MakeSequence(prompt, 1));
    model_.Admit(&sequences.back());
    batch.Add(&sequences.back());
  }
  ExpectLogits(&batch, want);
}

// Every prefix of the first prompt as a sequence of its own.
TEST_P(GoldenTest, LogitsAfterEveryToken) {
  const std::vector<float> want = Reference("full_logits_0");
  const std::vector<TokenId> prompt = Prompts()[0];
  std::deque<Sequence> sequences;
  Batch batch;
  for (size_t length = 1; length <= prompt.size(); ++length) {
    sequences.push_back(MakeSequence({prompt.begin(), prompt.begin() + length}, 1));
    model_.Admit(&sequences.back());
    batch.Add(&sequences.back());
  }
  ExpectLogits(&batch, want);
}

// Sequences join one by one, so that prompts and decode tokens share steps.
TEST_P(GoldenTest, GreedyTokens) {
  const std::vector<std::vector<TokenId>> want = golden_["greedy"];
  const std::vector<std::vector<double>> margins = golden_["margin"];
  const auto prompts = Prompts();
  std::deque<Sequence> sequences;
  Scheduler scheduler({64, 2048}, *model_.kv_cache);
  Batch batch;
  size_t num_done = 0;
  for (int step = 0; num_done < prompts.size(); ++step) {
    if (step < static_cast<int>(prompts.size())) {
      sequences.push_back(MakeSequence(prompts[step], static_cast<int32_t>(want[step].size())));
      scheduler.Add(&sequences.back());
    }
    scheduler.NextBatch(&batch);
    ASSERT_TRUE(model_.runner->Run(&batch).ok());
    scheduler.StepDone(batch);
    for (int32_t i = 0; i < batch.num_sequences(); ++i) {
      const absl::Span<float> logits = model_.runner->logits(i);
      Sequence* sequence = batch.sequence(i);
      sequence->tokens.push_back(
          static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      if (sequence->num_tokens() < sequence->max_tokens_total) continue;
      scheduler.Remove(sequence);
      ++num_done;
    }
  }
  int num_compared = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (size_t t = 0; t < want[i].size() && margins[i][t] > tolerance_.margin; ++t) {
      ASSERT_EQ(sequences[i].tokens[prompts[i].size() + t], want[i][t])
          << "prompt " << i << ", token " << t << ", margin " << margins[i][t];
      ++num_compared;
    }
  }
  // The random models are close calls all along: on bf16 few tokens come before the first small
  // margin.
  EXPECT_GE(num_compared, 8);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GoldenTest,
                         testing::Combine(testing::Values("mixtral", "mixtral-sw", "qwen3_moe"),
                                          testing::Values(Tolerance{"reference", 1e-4, 0.005},
                                                          Tolerance{"cpu", 2e-2, 0.1}),
                                          testing::Values(1, 3)),
                         [](const testing::TestParamInfo<Parameters>& info) {
                           std::string name = absl::StrCat(std::get<0>(info.param), "_",
                                                           std::get<1>(info.param).device, "_n",
                                                           std::get<2>(info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace moelight
