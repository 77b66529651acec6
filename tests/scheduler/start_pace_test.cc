// Goal: answers of one length come to be of all ages, so that the cache stays full, and nobody
// waits for good.
#include "engine/scheduler/start_pace.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "engine/scheduler/scheduler.h"

namespace moelight {
namespace {

constexpr int32_t kPageTokens = 4;
constexpr int32_t kNumPrompt = 4;
constexpr int32_t kNumOutput = 16;

std::unique_ptr<KvCache> MakeCache(int64_t num_pages) {
  KvCacheOptions cache;
  cache.num_layers = 1;
  cache.heads = {.num_attention_heads = 1, .num_key_value_heads = 1, .head_dim = 2};
  cache.page_tokens = kPageTokens;
  cache.num_pages = num_pages;
  return *KvCache::Create(cache);
}

Sequence MakeSequence(int32_t num_prompt, int32_t num_output) {
  Sequence sequence;
  sequence.tokens.assign(num_prompt, 1);
  sequence.num_prompt_tokens = num_prompt;
  sequence.max_tokens_total = num_prompt + num_output;
  sequence.ends_at_max = true;
  return sequence;
}

TEST(StartPaceTest, GivesOutTheWholeCacheOverTheLengthOfAnAnswer) {
  // In the mean of its life a sequence has 12 tokens, and so 3.5 pages: 100 of them fill 350 pages.
  const std::unique_ptr<KvCache> cache = MakeCache(350);
  StartPace pace(*cache, 1000);
  Sequence sequence = MakeSequence(kNumPrompt, kNumOutput);
  Sequence* const running = &sequence;
  int num_started = 0;
  for (int32_t step = 0; step < kNumOutput; ++step) {
    pace.BeginStep({&running, 1});
    for (; pace.has_room(); ++num_started) pace.Started(sequence);
  }
  EXPECT_GE(num_started, 100);
  EXPECT_LE(num_started, 101);
}

TEST(StartPaceTest, PlacesAreALimitToo) {
  const std::unique_ptr<KvCache> cache = MakeCache(350);
  StartPace pace(*cache, 32);
  Sequence sequence = MakeSequence(kNumPrompt, kNumOutput);
  Sequence* const running = &sequence;
  for (int32_t step = 0; step < 10; ++step) {
    pace.BeginStep({&running, 1});
    int num_started = 0;
    for (; pace.has_room(); ++num_started) pace.Started(sequence);
    EXPECT_EQ(num_started, 2) << "step " << step;
  }
}

TEST(StartPaceTest, WhatWasNotStartedIsNotSavedUp) {
  const std::unique_ptr<KvCache> cache = MakeCache(350);
  StartPace pace(*cache, 32);
  Sequence sequence = MakeSequence(kNumPrompt, kNumOutput);
  Sequence* const running = &sequence;
  for (int32_t step = 0; step < 100; ++step) pace.BeginStep({&running, 1});
  int num_started = 0;
  for (; pace.has_room(); ++num_started) pace.Started(sequence);
  EXPECT_EQ(num_started, 2);
}

TEST(StartPaceTest, WhatIsNotUsedIsGivenBack) {
  const std::unique_ptr<KvCache> cache = MakeCache(350);
  StartPace pace(*cache, 1000);
  const Sequence sequence = MakeSequence(kNumPrompt, 300);
  pace.BeginStep({});
  pace.Started(sequence);
  EXPECT_FALSE(pace.has_room());
  pace.Stopped(sequence);
  EXPECT_TRUE(pace.has_room());
}

TEST(StartPaceTest, PaysWhereManyMoreRunInTheMeanThanAtTheirEnds) {
  struct Case {
    const char* name;
    int32_t num_prompt;
    int32_t num_output;
    int32_t max_running;
    bool pays;
  };
  for (const Case& one :
       {Case{"long answers", 4, 16, 1000, true}, Case{"long prompts", 64, 8, 1000, false},
        Case{"places before pages", 4, 16, 70, false}}) {
    const std::unique_ptr<KvCache> cache = MakeCache(350);
    StartPace pace(*cache, one.max_running);
    Sequence sequence = MakeSequence(one.num_prompt, one.num_output);
    Sequence* const running = &sequence;
    pace.BeginStep({&running, 1});
    EXPECT_EQ(pace.pays(), one.pays) << one.name;
    EXPECT_EQ(pace.AppliesTo(sequence), one.pays) << one.name;
  }
}

TEST(StartPaceTest, AnswersThatEndByThemselvesHaveNone) {
  const std::unique_ptr<KvCache> cache = MakeCache(350);
  StartPace pace(*cache, 1000);
  Job job{PrefixIndex::kNone, LengthModel(/*expected_tokens=*/10)};
  Sequence sequence = MakeSequence(4, 400);
  sequence.ends_at_max = false;
  sequence.job = &job;
  EXPECT_FALSE(pace.AppliesTo(sequence));
  sequence.max_tokens_total = 4 + 5;
  EXPECT_TRUE(pace.AppliesTo(sequence)) << "most get as long as they may";
}

// A job of equal rows, step by step.
class PacedJob {
 public:
  PacedJob(int64_t num_pages, bool pace_starts, int num_rows) : cache_(MakeCache(num_pages)) {
    SchedulerOptions options;
    options.max_running_sequences = 1000;
    options.max_step_tokens = 1000;
    options.max_recompute_share = 10;
    options.pace_starts = pace_starts;
    scheduler_ = std::make_unique<Scheduler>(options, *cache_);
    for (int i = 0; i < num_rows; ++i) Add();
  }
  ~PacedJob() { Finish(); }

  void Add(const RequestGroup& group = {}, int32_t num_prompt = kNumPrompt) {
    rows_.push_back({MakeSequence(num_prompt, kNumOutput)});
    rows_.back().sequence.group = group;
    scheduler_->Add(&rows_.back().sequence);
  }
  void Cancel(size_t i) {
    scheduler_->Remove(&rows_[i].sequence, /*ended=*/false);
    rows_[i].ended = true;
  }
  void Step() {
    scheduler_->NextBatch(&batch_);
    ++num_steps_;
    num_pages_used_ += cache_->num_pages() - cache_->num_free_pages();
    std::vector<Sequence*> outputs;
    for (int32_t i = 0; i < batch_.num_sequences(); ++i) {
      if (batch_.sequence(i)->has_output()) outputs.push_back(batch_.sequence(i));
    }
    for (Row& row : rows_) {
      // One that was ahead and has been put back waits with its rank.
      const bool waits = row.sequence.rank != 0 && row.sequence.block_table.empty() && !row.ended;
      row.times_put_back += waits && !row.waits;
      row.waits = waits;
    }
    scheduler_->StepDone(batch_);
    num_generated_ += static_cast<int64_t>(outputs.size());
    for (Sequence* sequence : outputs) {
      sequence->tokens.push_back(2);
      if (sequence->num_tokens() < sequence->max_tokens_total) continue;
      scheduler_->Remove(sequence, /*ended=*/true);
      for (Row& row : rows_) {
        if (&row.sequence != sequence) continue;
        row.ended = true;
        row.end_step = num_steps_;
      }
    }
  }
  void Finish() {
    while (scheduler_->num_waiting() + scheduler_->num_running() > 0 && batch_is_alive()) Step();
    EXPECT_EQ(cache_->num_free_pages(), cache_->num_pages());
  }

  struct Row {
    Sequence sequence;
    int times_put_back = 0;
    bool waits = false;
    bool ended = false;
    int64_t end_step = 0;
    bool runs() const { return !sequence.block_table.empty(); }
  };
  const std::deque<Row>& rows() const { return rows_; }
  int64_t num_steps() const { return num_steps_; }
  int64_t num_generated() const { return num_generated_; }
  int64_t num_free_pages() const { return cache_->num_free_pages(); }
  double page_share() const {
    return static_cast<double>(num_pages_used_) /
           static_cast<double>(num_steps_ * cache_->num_pages());
  }

 private:
  bool batch_is_alive() const {
    EXPECT_LT(num_steps_, 10000);
    return num_steps_ < 10000;
  }

  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Scheduler> scheduler_;
  Batch batch_;
  std::deque<Row> rows_;
  int64_t num_steps_ = 0;
  int64_t num_generated_ = 0;
  int64_t num_pages_used_ = 0;
};

TEST(PacedSchedulerTest, AJobOfManyBatchesTakesFewerSteps) {
  PacedJob paced(350, true, 1000);
  PacedJob unpaced(350, false, 1000);
  paced.Finish();
  unpaced.Finish();
  EXPECT_LT(paced.num_steps(), unpaced.num_steps());
  EXPECT_GT(paced.page_share(), unpaced.page_share());
}

TEST(PacedSchedulerTest, ASmallJobStartsAtOnce) {
  PacedJob job(350, true, 70);
  job.Step();
  EXPECT_EQ(job.num_generated(), 70);
  job.Finish();
  EXPECT_EQ(job.num_steps(), kNumOutput);
}

// While new rows never stop coming: who was put back goes on as soon as what ran ahead has ended.
// Once for that; pages may run short once more.
TEST(PacedSchedulerTest, WhoRanAheadIsPutBackAndEnds) {
  PacedJob job(350, true, 400);
  for (int step = 0; step < 300; ++step) {
    job.Step();
    for (int i = 0; i < 7; ++i) job.Add();
  }
  int num_put_back = 0;
  for (int i = 0; i < 400; ++i) {
    const PacedJob::Row& row = job.rows()[i];
    EXPECT_TRUE(row.ended) << "row " << i;
    EXPECT_LE(row.end_step, 8 * kNumOutput) << "row " << i;
    EXPECT_LE(row.times_put_back, 2) << "row " << i;
    num_put_back += row.times_put_back;
  }
  EXPECT_GT(num_put_back, 0);
}

// All of one client wait for the first of them while it computes what they begin with: the round
// then has nobody in front.
TEST(PacedSchedulerTest, RowsWithACommonBeginningWaitForIt) {
  PacedJob job(350, true, 70);
  job.Step();
  job.Step();
  for (int i = 0; i < 5; ++i) job.Add({.job = "common"}, 3 * kPageTokens);
  job.Step();
  EXPECT_TRUE(job.rows()[70].runs());
  EXPECT_FALSE(job.rows()[71].runs());
  job.Finish();
  EXPECT_TRUE(job.rows()[74].ended);
}

TEST(PacedSchedulerTest, NobodyOfLowerPriorityGoesOnBeforeNewOnesOfHigher) {
  PacedJob job(350, true, 400);
  for (int step = 0; step < 14; ++step) job.Step();
  EXPECT_TRUE(std::any_of(job.rows().begin(), job.rows().end(),
                          [](const PacedJob::Row& row) { return row.waits; }));
  for (int i = 0; i < 100; ++i) job.Add({.priority = 1});
  for (int step = 0; step < 100 && !job.rows().back().ended; ++step) {
    std::vector<bool> waited;
    for (const PacedJob::Row& row : job.rows()) waited.push_back(row.waits);
    job.Step();
    if (job.rows().back().sequence.rank != 0) continue;
    for (size_t i = 0; i < 400; ++i) {
      EXPECT_FALSE(waited[i] && job.rows()[i].runs()) << "row " << i << ", step " << step;
    }
  }
  EXPECT_TRUE(job.rows().back().ended);
}

TEST(PacedSchedulerTest, TheCacheIsFilledAgainAfterACancellation) {
  PacedJob job(350, true, 1000);
  for (int step = 0; step < 12; ++step) job.Step();
  EXPECT_LE(job.num_free_pages(), 35);
  for (size_t i = 0; i < job.rows().size(); ++i) {
    if (job.rows()[i].runs() && !job.rows()[i].sequence.is_ahead) job.Cancel(i);
  }
  EXPECT_GE(job.num_free_pages(), 150);
  for (int step = 0; step < 3; ++step) job.Step();
  EXPECT_LE(job.num_free_pages(), 70);
}

}  // namespace
}  // namespace moelight
