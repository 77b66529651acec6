// Goal: whatever the scheduler decides, a row's answer is the same to the bit, every row finishes,
// no page is lost and none is shared by accident. Random limits, arrivals, priorities, shared
// prompt beginnings, cancellations and lengths, on the cpu backend with a real model.
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/backend/backend.h"
#include "engine/engine_plan.h"
#include "engine/memory/device_weights.h"
#include "engine/memory/kv_cache.h"
#include "engine/model/weight_loader.h"
#include "engine/pipeline/step_runner.h"
#include "engine/sampling/sampler.h"
#include "engine/scheduler/scheduler.h"

namespace moelight {
namespace {

// Sanitizers run the same code ten times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kNumSchedules = 50;
#else
constexpr int kNumSchedules = 1000;
#endif
constexpr int32_t kMaxRunning = 8;
constexpr int32_t kMaxStepTokens = 64;
constexpr int32_t kMaxModelLen = 64;
constexpr int kNumRows = 24;

// A row of the fixed set that every schedule takes some of.
struct Row {
  std::vector<TokenId> prompt;
  int32_t num_output_tokens = 0;
  SamplingParams sampling;
  std::string job;
};

class RandomScheduleTest : public testing::Test {
 protected:
  RandomScheduleTest() {
    EngineOptions options;
    options.model = std::string(MOELIGHT_SOURCE_DIR "/tests/data/models/mixtral");
    options.device = "cpu";
    options.host_memory_bytes = int64_t{64} << 20;
    options.max_running_sequences = kMaxRunning;
    options.max_step_tokens = kMaxStepTokens;
    options.max_model_len = kMaxModelLen;
    options.cpu_threads = 1;
    config_ = *LoadModelConfig(options.model);
    BackendOptions backend_options;
    backend_options.num_threads = 1;
    backend_ = *CreateBackend("cpu", backend_options);
    plan_ = *MakeEnginePlan(options, config_, *backend_);
    weights_ = *DeviceWeights::Create(config_, plan_.weights, plan_.experts,
                                      *LoadWeights(options.model, config_, plan_.weights,
                                                   LoadFormat::kSafetensors, 1, Logger::Null()),
                                      *backend_);
    EXPECT_TRUE(backend_->Reserve(plan_.op_limits).ok());
    MakeRows();
  }

  void MakeRows() {
    std::mt19937 random(1);
    for (int i = 0; i < kNumRows; ++i) {
      Row row;
      row.job = i % 3 == 0 ? "" : i % 3 == 1 ? "a" : "b";
      // Rows of a job begin with up to 20 tokens of the same text.
      const int32_t num_shared = row.job.empty() ? 0 : static_cast<int32_t>(random() % 21);
      const int32_t num_prompt = num_shared + 1 + static_cast<int32_t>(random() % 12);
      for (int32_t t = 0; t < num_prompt; ++t) {
        const uint32_t text = t < num_shared ? 7 * t + row.job[0] : random();
        row.prompt.push_back(static_cast<TokenId>(text % config_.vocab_size));
      }
      row.num_output_tokens = 1 + static_cast<int32_t>(random() % 20);
      row.sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
      row.sampling.seed = random();
      rows_.push_back(row);
    }
  }

  // One row's way through a schedule.
  struct Running {
    Sequence sequence;
    std::optional<SequenceSampler> sampler;
    int row = 0;
    int32_t num_tokens_at_end = 0;
    bool done = false;
  };

  Running MakeRunning(int index, bool knows_end) const {
    const Row& row = rows_[index];
    Running running;
    running.row = index;
    running.sequence.tokens = row.prompt;
    running.sequence.num_prompt_tokens = static_cast<int32_t>(row.prompt.size());
    running.num_tokens_at_end = running.sequence.num_prompt_tokens + row.num_output_tokens;
    running.sequence.max_tokens_total =
        knows_end ? running.num_tokens_at_end : running.num_tokens_at_end + 9;
    running.sequence.ends_at_max = knows_end;
    running.sequence.group.job = row.job;
    running.sampler.emplace(row.sampling, SamplingDefaults(), *row.sampling.seed, 0,
                            config_.vocab_size, row.prompt);
    return running;
  }

  // The answers of the rows in `running`, all in one schedule.
  void RunSchedule(const SchedulerOptions& options, const KvCacheOptions& cache, int cancel_one_in,
                   std::mt19937* random, std::deque<Running>* running) {
    const std::unique_ptr<KvCache> kv_cache = *KvCache::Create(cache);
    CutOptions cut = plan_.cut;
    cut.kv_page_tokens = cache.page_tokens;
    cut.num_micro_batches = 1 + static_cast<int32_t>((*random)() % 3);
    ActivationShape activations = plan_.activations;
    activations.kv_page_tokens = cache.page_tokens;
    const std::unique_ptr<StepRunner> runner = *StepRunner::Create(
        {plan_.schedule, cut, activations},
        {config_, weights_->weights(), nullptr, *backend_, *backend_, *kv_cache, nullptr});
    Scheduler scheduler(options, *kv_cache);
    std::map<const Sequence*, Running*> running_of;
    std::deque<Running*> arrivals;
    for (Running& one : *running) {
      if (!scheduler.CheckFits(one.sequence).ok()) {
        one.done = true;
        continue;
      }
      running_of[&one.sequence] = &one;
      arrivals.push_back(&one);
    }
    Batch batch;
    SamplerScratch scratch;
    while (!arrivals.empty() || scheduler.num_waiting() + scheduler.num_running() > 0) {
      const bool is_idle = scheduler.num_waiting() + scheduler.num_running() == 0;
      for (int64_t i = is_idle ? 1 : (*random)() % 4; i > 0 && !arrivals.empty(); --i) {
        scheduler.Add(&arrivals.front()->sequence);
        arrivals.pop_front();
      }
      scheduler.NextBatch(&batch);
      ASSERT_GT(batch.num_sequences(), 0);
      ASSERT_LE(batch.num_sequences(), options.max_running_sequences);
      ASSERT_LE(batch.num_rows(), options.max_step_tokens);
      ASSERT_TRUE(runner->Run(&batch).ok());
      scheduler.StepDone(batch);
      for (int32_t i = 0; i < batch.num_outputs(); ++i) {
        Running& one = *running_of.at(batch.output(i));
        one.sequence.tokens.push_back(one.sampler->Sample(runner->logits(i), scratch)->token);
        const bool is_cancelled = cancel_one_in > 0 && (*random)() % cancel_one_in == 0;
        one.done = one.sequence.num_tokens() == one.num_tokens_at_end;
        if (one.done || is_cancelled) {
          scheduler.Remove(&one.sequence, /*ended=*/one.done);
          running_of.erase(&one.sequence);
        }
      }
      CheckPages(*kv_cache, running_of);
    }
    EXPECT_EQ(kv_cache->num_free_pages(), kv_cache->num_pages());
  }

  // Free plus used is the total; a page in two tables holds the same beginning of the same job.
  static void CheckPages(const KvCache& kv_cache,
                         const std::map<const Sequence*, Running*>& running_of) {
    std::map<int32_t, std::vector<std::pair<const Sequence*, size_t>>> users;
    for (const auto& [sequence, running] : running_of) {
      for (size_t i = 0; i < sequence->block_table.size(); ++i) {
        users[sequence->block_table[i]].push_back({sequence, i});
      }
    }
    ASSERT_EQ(kv_cache.num_free_pages() + static_cast<int64_t>(users.size()), kv_cache.num_pages());
    for (const auto& [page, list] : users) {
      ASSERT_EQ(kv_cache.num_users(page), static_cast<int32_t>(list.size()));
      const auto& [first, place] = list.front();
      for (const auto& [other, other_place] : list) {
        if (other == first) continue;
        const int64_t end = static_cast<int64_t>(place + 1) * kv_cache.page_tokens();
        ASSERT_EQ(place, other_place);
        ASSERT_FALSE(first->group.job.empty());
        ASSERT_EQ(first->group.job, other->group.job);
        ASSERT_LE(end, std::min(first->num_prompt_tokens, other->num_prompt_tokens));
        ASSERT_TRUE(
            std::equal(first->tokens.begin(), first->tokens.begin() + end, other->tokens.begin()));
      }
    }
  }

  ModelConfig config_;
  std::unique_ptr<Backend> backend_;
  EnginePlan plan_;
  std::unique_ptr<DeviceWeights> weights_;
  std::vector<Row> rows_;
};

TEST_F(RandomScheduleTest, ChangesNoAnswerAndLosesNoPage) {
  std::mt19937 random(20261123);
  // Each row alone, its prompt whole.
  std::vector<std::vector<TokenId>> want;
  KvCacheOptions roomy = plan_.kv_cache;
  roomy.num_pages = 64;
  for (int i = 0; i < kNumRows; ++i) {
    std::deque<Running> alone;
    alone.push_back(MakeRunning(i, true));
    RunSchedule(plan_.scheduler, roomy, 0, &random, &alone);
    ASSERT_TRUE(alone[0].done);
    want.push_back(alone[0].sequence.tokens);
  }
  int64_t num_cancelled = 0;
  for (int round = 0; round < kNumSchedules && !HasFailure(); ++round) {
    SCOPED_TRACE(testing::Message() << "schedule " << round);
    SchedulerOptions options;
    options.max_running_sequences = 1 + static_cast<int32_t>(random() % kMaxRunning);
    options.max_step_tokens =
        options.max_running_sequences +
        static_cast<int32_t>(random() % (kMaxStepTokens - options.max_running_sequences + 1));
    options.max_step_tokens = std::max(options.max_step_tokens, options.max_running_sequences + 1);
    options.max_chunk_tokens = 1 + static_cast<int32_t>(random() % 40);
    options.mix_prompts = random() % 5 != 0;
    options.reserve_pages = random() % 5 == 0;
    options.share_prefixes = random() % 4 != 0;
    options.max_recompute_share = 0.01 * (random() % 100);
    options.pace_starts = options.mix_prompts && !options.reserve_pages && random() % 2 == 0;
    options.expected_output_tokens = 1 + static_cast<int32_t>(random() % 30);
    KvCacheOptions cache = plan_.kv_cache;
    cache.page_tokens = 1 + static_cast<int32_t>(random() % 9);
    cache.num_pages = 60 / cache.page_tokens + 1 + random() % 20;
    const int cancel_one_in = random() % 3 == 0 ? 40 : 0;
    std::deque<Running> running;
    for (int i = 2 + random() % 14; i > 0; --i) {
      running.push_back(MakeRunning(random() % kNumRows, random() % 2 == 0));
      RequestGroup& group = running.back().sequence.group;
      group.client = std::string(random() % 3, 'c');
      group.client_weight = 1 + random() % 3;
      group.priority =
          random() % 9 == 0 ? kInteractivePriority : static_cast<int32_t>(random() % 2);
    }
    RunSchedule(options, cache, cancel_one_in, &random, &running);
    for (const Running& one : running) {
      const std::vector<TokenId>& all = want[one.row];
      EXPECT_TRUE(one.done || cancel_one_in > 0);
      num_cancelled += !one.done;
      ASSERT_LE(one.sequence.tokens.size(), all.size());
      EXPECT_TRUE(std::equal(one.sequence.tokens.begin(), one.sequence.tokens.end(), all.begin()))
          << "row " << one.row;
    }
  }
  EXPECT_GT(num_cancelled, 0);
}

}  // namespace
}  // namespace moelight
