// Goal: the scheduler fills every place it can, in order, within its limits, and loses no page.
#include "engine/scheduler/scheduler.h"

#include <deque>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace moelight {
namespace {

class SchedulerTest : public testing::Test {
 protected:
  void Start(int32_t max_running, int32_t max_step_tokens, int64_t num_pages) {
    KvCacheOptions options;
    options.num_layers = 1;
    options.heads = {.num_attention_heads = 1, .num_key_value_heads = 1, .head_dim = 2};
    options.page_tokens = 4;
    options.num_pages = num_pages;
    cache_ = *KvCache::Create(options);
    scheduler_ =
        std::make_unique<Scheduler>(SchedulerOptions{max_running, max_step_tokens}, *cache_);
  }
  Sequence* Add(int32_t num_prompt, int32_t max_tokens, bool priority = false) {
    Sequence& sequence = sequences_.emplace_back();
    sequence.tokens.assign(num_prompt, 1);
    sequence.num_prompt_tokens = num_prompt;
    sequence.max_tokens_total = num_prompt + max_tokens;
    sequence.priority = priority;
    scheduler_->Add(&sequence);
    return &sequence;
  }
  // Runs one step: every sequence gets a token; those at their length are removed.
  std::vector<Sequence*> Step() {
    scheduler_->NextBatch(&batch_);
    scheduler_->StepDone(batch_);
    std::vector<Sequence*> ran;
    for (int32_t i = 0; i < batch_.num_sequences(); ++i) ran.push_back(batch_.sequence(i));
    for (Sequence* sequence : ran) {
      sequence->tokens.push_back(2);
      if (sequence->num_tokens() == sequence->max_tokens_total) scheduler_->Remove(sequence);
    }
    return ran;
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
  Sequence* urgent = Add(2, 1, /*priority=*/true);
  EXPECT_EQ(Step(), std::vector<Sequence*>{urgent});
}

TEST_F(SchedulerTest, StepTokensBoundAdmission) {
  Start(4, 8, 100);
  Sequence* a = Add(4, 4);
  Sequence* b = Add(4, 4);
  Sequence* c = Add(4, 4);
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, b}));
  // Two running tokens leave room for six.
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, b, c}));
}

TEST_F(SchedulerTest, APromptLongerThanAStepRunsAsTheOnlyNewOne) {
  Start(4, 8, 100);
  Sequence* a = Add(2, 3);
  Sequence* longer = Add(50, 2);
  Sequence* c = Add(2, 2);
  EXPECT_EQ(Step(), std::vector<Sequence*>{a});
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, longer}));
  EXPECT_EQ(Step(), (std::vector<Sequence*>{a, longer, c}));
}

TEST_F(SchedulerTest, PagesBoundAdmissionAndComeBack) {
  Start(8, 100, 4);
  Sequence* a = Add(4, 4);  // two pages
  Sequence* b = Add(4, 8);  // three pages
  EXPECT_EQ(Step(), std::vector<Sequence*>{a});
  EXPECT_EQ(cache_->num_free_pages(), 2);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Step(), std::vector<Sequence*>{a});
  EXPECT_EQ(cache_->num_free_pages(), 4);
  EXPECT_EQ(Step(), std::vector<Sequence*>{b});
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
  scheduler_->Remove(b);
  Step();
  EXPECT_EQ(Step(), std::vector<Sequence*>{c});
  EXPECT_EQ(a->num_tokens(), a->max_tokens_total);
}

// Invariants over random loads: limits hold in every step, all sequences finish, all pages return.
TEST_F(SchedulerTest, RandomLoadsFinish) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const int32_t max_running = 1 + random() % 6;
    const int32_t max_step_tokens = max_running + random() % 20;
    Start(max_running, max_step_tokens, 12 + random() % 20);
    sequences_.clear();
    int64_t num_left = 0;
    for (int i = 0; i < 50; ++i) {
      Add(1 + random() % 30, 1 + random() % 10, random() % 4 == 0);
      num_left += sequences_.back().max_tokens_total - sequences_.back().num_tokens();
    }
    const int64_t num_pages = cache_->num_pages();
    while (scheduler_->num_waiting() + scheduler_->num_running() > 0) {
      const std::vector<Sequence*> ran = Step();
      ASSERT_FALSE(ran.empty()) << "seed " << seed;
      ASSERT_LE(static_cast<int32_t>(ran.size()), max_running);
      ASSERT_LE(batch_.num_rows(), Scheduler::MaxStepRows({max_running, max_step_tokens}, 40));
      num_left -= static_cast<int64_t>(ran.size());
    }
    EXPECT_EQ(num_left, 0);
    EXPECT_EQ(cache_->num_free_pages(), num_pages);
  }
}

}  // namespace
}  // namespace moelight
