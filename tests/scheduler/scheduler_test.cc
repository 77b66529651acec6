// Goal: the scheduler fills every place it can, in order, within its limits, and loses no page.
#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace moelight {
namespace {

constexpr int32_t kPageTokens = 4;

class SchedulerTest : public testing::Test {
 protected:
  void Start(const SchedulerOptions& options, int64_t num_pages) {
    KvCacheOptions cache;
    cache.num_layers = 1;
    cache.heads = {.num_attention_heads = 1, .num_key_value_heads = 1, .head_dim = 2};
    cache.page_tokens = kPageTokens;
    cache.num_pages = num_pages;
    scheduler_.reset();
    cache_ = *KvCache::Create(cache);
    scheduler_ = std::make_unique<Scheduler>(options, *cache_);
  }
  void Start(int32_t max_running, int32_t max_step_tokens, int64_t num_pages) {
    SchedulerOptions options;
    options.max_running_sequences = max_running;
    options.max_step_tokens = max_step_tokens;
    Start(options, num_pages);
  }
  Sequence* Add(int32_t num_prompt, int32_t max_tokens, const RequestGroup& group = {}) {
    Sequence& sequence = sequences_.emplace_back();
    // No two prompts begin alike.
    sequence.tokens.assign(num_prompt, 100 + static_cast<int32_t>(sequences_.size()));
    sequence.num_prompt_tokens = num_prompt;
    sequence.max_tokens_total = num_prompt + max_tokens;
    sequence.ends_at_max = true;
    sequence.group = group;
    scheduler_->Add(&sequence);
    return &sequence;
  }
  // Runs one step: every output gets a token; those at their length are removed.
  std::vector<Sequence*> Step() {
    scheduler_->NextBatch(&batch_);
    std::vector<Sequence*> ran;
    std::vector<Sequence*> outputs;
    for (int32_t i = 0; i < batch_.num_sequences(); ++i) {
      ran.push_back(batch_.sequence(i));
      if (ran.back()->has_output()) outputs.push_back(ran.back());
    }
    scheduler_->StepDone(batch_);
    for (Sequence* sequence : outputs) {
      sequence->tokens.push_back(2);
      if (sequence->num_tokens() == sequence->max_tokens_total) {
        scheduler_->Remove(sequence, /*ended=*/true);
      }
    }
    return ran;
  }
  int32_t RunToEnd() {
    int32_t num_steps = 0;
    while (scheduler_->num_waiting() + scheduler_->num_running() > 0) {
      EXPECT_FALSE(Step().empty());
      ++num_steps;
    }
    EXPECT_EQ(cache_->num_free_pages(), cache_->num_pages());
    return num_steps;
  }

  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Scheduler> scheduler_;
  std::deque<Sequence> sequences_;
  Batch batch_;
};

TEST_F(SchedulerTest, AFreedPlaceIsFilledInTheNextStep) {
  Start(2, 100, 100);
  Sequence* a = Add(3, 1);
  Sequence* b = Add(3, 3);
  Sequence* c = Add(3, 1);
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, b}));
  EXPECT_EQ(Step(), (std::vector<Sequence*>{b, c}));
  EXPECT_EQ(batch_.num_prefill_tokens(), 3);
  EXPECT_EQ(batch_.num_decode_tokens(), 1);
}

TEST_F(SchedulerTest, PriorityGoesFirst) {
  Start(1, 100, 100);
  Add(2, 1);
  Sequence* urgent = Add(2, 1, {.priority = 1});
  EXPECT_EQ(Step(), std::vector<Sequence*>{urgent});
}

TEST_F(SchedulerTest, APromptGoesOnWhereTheStepBeforeHadNoMoreRoom) {
  Start(4, 10, 100);
  Sequence* a = Add(4, 4);
  Sequence* longer = Add(20, 2);
  Sequence* c = Add(2, 2);
  EXPECT_EQ(Step(), std::vector<Sequence*>{a}) << "a piece of 6 is too small beside another prompt";
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, longer}));
  EXPECT_EQ(batch_.num_rows(), 10);
  EXPECT_EQ(longer->num_cached_tokens, 9);
  EXPECT_EQ(longer->num_tokens(), 20) << "no token before its prompt is complete";
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, longer}));
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, longer, c}));
  EXPECT_EQ(longer->num_tokens(), 21);
}

TEST_F(SchedulerTest, PiecesAreNotLongerThanTheirLimit) {
  SchedulerOptions options;
  options.max_step_tokens = 512;
  options.max_chunk_tokens = 7;
  Start(options, 100);
  Sequence* a = Add(16, 1);
  for (const int32_t cached : {7, 14}) {
    Step();
    EXPECT_EQ(a->num_cached_tokens, cached);
  }
  Step();
  EXPECT_EQ(scheduler_->num_running(), 0);
}

TEST_F(SchedulerTest, PromptsOfAStepAttendToNoMorePagesThanTheLimit) {
  SchedulerOptions options;
  options.max_prompt_pages = 5;
  Start(options, 100);
  Sequence* a = Add(12, 2);
  Sequence* b = Add(8, 2);
  Sequence* c = Add(4, 2);
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, b}));
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, b, c}));
}

TEST_F(SchedulerTest, ReservedPagesBoundAdmissionAndComeBack) {
  SchedulerOptions options;
  options.reserve_pages = true;
  Start(options, 4);
  Sequence* a = Add(4, 4);  // two pages
  Sequence* b = Add(4, 8);  // three pages
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Step(), std::vector<Sequence*>{a});
  EXPECT_EQ(cache_->num_free_pages(), 4);
  EXPECT_EQ(Step(), std::vector<Sequence*>{b});
  RunToEnd();
  EXPECT_EQ(scheduler_->counters().num_preempted, 0);
}

TEST_F(SchedulerTest, PagesAreTakenAsSequencesGrow) {
  Start(8, 100, 40);
  for (int i = 0; i < 6; ++i) Add(4, 30);  // nine pages each at their longest
  EXPECT_EQ(Step().size(), 6u) << "all but nothing is needed at first";
  EXPECT_EQ(cache_->num_free_pages(), 34);
}

TEST_F(SchedulerTest, TheYoungestIsPutBackWithItsTokensAndComesFirstAgain) {
  SchedulerOptions options;
  options.max_recompute_share = 10;
  Start(options, 20);
  std::vector<Sequence*> all;
  for (int i = 0; i < 5; ++i) all.push_back(Add(4, 40));
  while (scheduler_->counters().num_preempted == 0) Step();
  Sequence* youngest = all.back();
  const std::vector<TokenId> tokens = youngest->tokens;
  EXPECT_TRUE(youngest->block_table.empty());
  EXPECT_GT(youngest->num_generated_tokens(), 0);
  Sequence* later = Add(4, 40);
  while (youngest->block_table.empty()) {
    EXPECT_TRUE(later->block_table.empty()) << "those put back go first";
    Step();
  }
  EXPECT_EQ(
      std::vector<TokenId>(youngest->tokens.begin(), youngest->tokens.begin() + tokens.size()),
      tokens);
  RunToEnd();
  EXPECT_LE(scheduler_->counters().num_recomputed_tokens, scheduler_->counters().num_lost_tokens);
}

TEST_F(SchedulerTest, AnInteractiveRequestJoinsAFullBatchInTheNextStep) {
  Start(3, 100, 100);
  for (int i = 0; i < 4; ++i) Add(4, 30);
  EXPECT_EQ(Step().size(), 3u);
  Sequence* interactive = Add(6, 3, {.priority = kInteractivePriority});
  const std::vector<Sequence*> ran = Step();
  EXPECT_EQ(ran.size(), 3u);
  EXPECT_NE(std::find(ran.begin(), ran.end(), interactive), ran.end());
  EXPECT_EQ(scheduler_->counters().num_preempted, 1);
  RunToEnd();
}

// A bug once: a step without tokens left was taken for a cache without pages, and the batch was put
// back for prompts that could not use what it gave.
TEST_F(SchedulerTest, InteractivePromptsBeyondAStepEvictNobody) {
  for (const bool mix : {true, false}) {
    SchedulerOptions options;
    options.mix_prompts = mix;
    options.max_running_sequences = 50;
    options.max_step_tokens = 100;
    Start(options, 1000);
    for (int i = 0; i < 20; ++i) Add(4, 30);
    EXPECT_EQ(Step().size(), 20u);
    for (int i = 0; i < 6; ++i) Add(90, 3, {.priority = kInteractivePriority});
    RunToEnd();
    EXPECT_EQ(scheduler_->counters().num_preempted, 0);
  }
}

TEST_F(SchedulerTest, WithoutMixedStepsAStepHasPromptsOrDecodeTokens) {
  SchedulerOptions options;
  options.mix_prompts = false;
  options.max_running_sequences = 8;
  options.max_step_tokens = 70;
  Start(options, 100);
  for (int i = 0; i < 4; ++i) Add(40, 20);
  for (int i = 0; i < 4; ++i) {
    ASSERT_FALSE(Step().empty());
    EXPECT_EQ(batch_.num_decode_tokens(), 0) << "prompts follow each other until all are in";
    if (scheduler_->num_waiting() == 0 && batch_.num_rows() < 70) break;
  }
  EXPECT_EQ(scheduler_->num_running(), 4);
  for (int i = 0; i < 40; ++i) Add(3 + i % 5, 2 + i % 7);
  while (scheduler_->num_waiting() + scheduler_->num_running() > 0) {
    ASSERT_FALSE(Step().empty());
    EXPECT_TRUE(batch_.num_prefill_tokens() == 0 || batch_.num_decode_tokens() == 0);
  }
}

TEST_F(SchedulerTest, WhatCanNeverRunIsRefusedWithBothNumbers) {
  Start(8, 100, 4);
  Sequence sequence;
  sequence.tokens.assign(4, 1);
  sequence.max_tokens_total = 17;
  EXPECT_EQ(scheduler_->CheckFits(sequence).message(),
            "prompt and max_tokens make 17 tokens, which need 5 KV pages; there are 4 (raise "
            "engine.host_memory)");
}

TEST_F(SchedulerTest, RemovingAWaitingSequenceLeavesTheOthers) {
  Start(1, 100, 100);
  Sequence* a = Add(2, 2);
  Sequence* b = Add(2, 2);
  Sequence* c = Add(2, 2);
  Step();
  scheduler_->Remove(b, /*ended=*/false);
  Step();
  EXPECT_EQ(Step(), std::vector<Sequence*>{c});
  EXPECT_EQ(a->num_tokens(), a->max_tokens_total);
}

// Recomputation is bounded whatever lengths turn out to be. Here all answers are far longer than
// expected, and the pages are few.
TEST_F(SchedulerTest, RecomputationIsBounded) {
  for (const double share : {0.02, 0.1, 0.3}) {
    SchedulerOptions options;
    options.max_running_sequences = 64;
    options.max_recompute_share = share;
    options.expected_output_tokens = 4;
    Start(options, 120);
    sequences_.clear();
    for (int i = 0; i < 600; ++i) Add(5 + i % 9, 60 + i % 90)->ends_at_max = false;
    RunToEnd();
    const SchedulerCounters& counters = scheduler_->counters();
    const double cache_tokens = 120 * kPageTokens;
    EXPECT_GT(counters.num_preempted, 0);
    EXPECT_LE(counters.num_lost_tokens,
              2 * share * (counters.num_computed_tokens + cache_tokens) + cache_tokens)
        << share;
  }
}

// A job whose prompts have the same first pages.
class SharedPrefixTest : public SchedulerTest {
 protected:
  Sequence* AddRow(const std::string& job, int32_t num_prompt, int32_t max_tokens,
                   int32_t num_shared) {
    Sequence& sequence = sequences_.emplace_back();
    sequence.tokens.assign(num_prompt, 100 + static_cast<int32_t>(sequences_.size()));
    std::fill_n(sequence.tokens.begin(), num_shared, 7);
    sequence.num_prompt_tokens = num_prompt;
    sequence.max_tokens_total = num_prompt + max_tokens;
    sequence.group.job = job;
    scheduler_->Add(&sequence);
    return &sequence;
  }
};

TEST_F(SharedPrefixTest, IsComputedOnceAndFreedWithTheJob) {
  Start(16, 200, 100);
  for (int i = 0; i < 10; ++i) AddRow("job", 12, 3, 9);  // two full pages and one token
  EXPECT_EQ(Step().size(), 1u) << "the others wait for the first";
  EXPECT_EQ(batch_.num_rows(), 12);
  EXPECT_EQ(Step().size(), 10u);
  EXPECT_EQ(batch_.num_rows(), 1 + 9 * 4) << "each computes what lies beyond the shared pages";
  EXPECT_EQ(cache_->num_free_pages(), 100 - (2 + 1 + 9 * 1 + 1)) << "two pages for all of them";
  RunToEnd();
  EXPECT_EQ(scheduler_->counters().num_shared_tokens, 9 * 8);
}

TEST_F(SharedPrefixTest, IsNotSharedBetweenJobsNorWithoutOne) {
  Start(16, 200, 100);
  AddRow("a", 12, 3, 12);
  AddRow("b", 12, 3, 12);
  AddRow("", 12, 3, 12);
  AddRow("", 12, 3, 12);
  EXPECT_EQ(Step().size(), 4u);
  RunToEnd();
  EXPECT_EQ(scheduler_->counters().num_shared_tokens, 0);
}

TEST_F(SharedPrefixTest, OneTokenOfAKnownPromptIsAlwaysComputed) {
  Start(16, 200, 100);
  AddRow("job", 8, 4, 8);
  Sequence* same = AddRow("job", 8, 4, 8);
  Step();
  Step();
  EXPECT_EQ(same->num_shared_tokens, 4);
  EXPECT_EQ(same->num_tokens(), 9);
  RunToEnd();
}

TEST_F(SharedPrefixTest, SomeoneElseComputesItWhenTheFirstIsCancelled) {
  SchedulerOptions options;
  options.max_chunk_tokens = 6;
  Start(options, 100);
  Sequence* first = AddRow("job", 20, 3, 16);
  Sequence* second = AddRow("job", 20, 3, 16);
  EXPECT_EQ(Step(), std::vector<Sequence*>{first});
  scheduler_->Remove(first, /*ended=*/false);
  EXPECT_EQ(Step(), std::vector<Sequence*>{second});
  RunToEnd();
}

TEST_F(SharedPrefixTest, KnownPagesMakeRoomWhenOthersNeedThem) {
  Start(2, 200, 8);
  AddRow("job", 12, 1, 12);
  AddRow("other", 4, 27, 4);
  Sequence* again = AddRow("job", 12, 20, 12);
  RunToEnd();
  EXPECT_EQ(again->num_tokens(), 32);
}

}  // namespace
}  // namespace moelight
