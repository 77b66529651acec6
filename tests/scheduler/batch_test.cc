// Goal: a batch lays out exactly the tokens that are not cached, and its parts cover it once.
#include "engine/scheduler/batch.h"

#include <deque>

#include <gtest/gtest.h>

namespace moelight {
namespace {

Sequence MakeSequence(int32_t num_tokens, int32_t num_cached) {
  Sequence sequence;
  for (int32_t i = 0; i < num_tokens; ++i) sequence.tokens.push_back(100 * num_tokens + i);
  sequence.num_prompt_tokens = num_tokens;
  sequence.num_cached_tokens = num_cached;
  sequence.num_step_tokens = num_tokens - num_cached;
  sequence.block_table = {1, 2};
  return sequence;
}

TEST(BatchTest, HoldsWhatIsNotCached) {
  Sequence prompt = MakeSequence(3, 0);
  Sequence decode = MakeSequence(5, 4);
  Batch batch;
  batch.Add(&prompt);
  batch.Add(&decode);
  batch.Cut({.num_micro_batches = 1});
  ASSERT_EQ(batch.micro_batches().size(), 1u);
  const MicroBatch& part = batch.micro_batches()[0];
  EXPECT_EQ(std::vector<int32_t>(batch.token_ids(part).begin(), batch.token_ids(part).end()),
            (std::vector<int32_t>{300, 301, 302, 504}));
  EXPECT_EQ(std::vector<int32_t>(batch.positions(part).begin(), batch.positions(part).end()),
            (std::vector<int32_t>{0, 1, 2, 4}));
  EXPECT_EQ(batch.num_prefill_tokens(), 3);
  EXPECT_EQ(batch.num_decode_tokens(), 1);
  EXPECT_EQ(std::vector<int32_t>(batch.last_rows().begin(), batch.last_rows().end()),
            (std::vector<int32_t>{2, 3}));
  const AttentionSequence attention = batch.host_attention(part)[1];
  EXPECT_EQ(attention.first_row, 3);
  EXPECT_EQ(attention.num_tokens, 1);
  EXPECT_EQ(attention.num_cached_tokens, 4);
}

class CutTest : public testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(CutTest, PartsCoverTheBatchOnceAndCountRowsFromTheirStart) {
  const auto [num_sequences, num_parts] = GetParam();
  std::deque<Sequence> sequences;
  Batch batch;
  for (int i = 0; i < num_sequences; ++i) {
    sequences.push_back(MakeSequence(1 + (i * 7) % 5, 0));
    batch.Add(&sequences.back());
  }
  batch.Cut({.num_micro_batches = num_parts});
  EXPECT_LE(static_cast<int>(batch.micro_batches().size()), num_parts);
  int32_t next_row = 0;
  int32_t next_sequence = 0;
  for (const MicroBatch& part : batch.micro_batches()) {
    EXPECT_EQ(part.row_begin, next_row);
    EXPECT_EQ(part.sequence_begin, next_sequence);
    EXPECT_GT(part.num_sequences(), 0);
    int32_t row = 0;
    for (const AttentionSequence& sequence : batch.host_attention(part)) {
      EXPECT_EQ(sequence.first_row, row);
      row += sequence.num_tokens;
    }
    EXPECT_EQ(row, part.num_rows());
    next_row = part.row_end;
    next_sequence = part.sequence_end;
  }
  EXPECT_EQ(next_row, batch.num_rows());
  EXPECT_EQ(next_sequence, num_sequences);
}

INSTANTIATE_TEST_SUITE_P(Sizes, CutTest,
                         testing::Combine(testing::Values(1, 2, 3, 16, 33),
                                          testing::Values(1, 2, 3, 5, 16)));

// Decode tokens on the host come first, prompts on the device last; staging pages are counted from
// 0 in every micro-batch and lead back to the cache's pages.
TEST(BatchTest, PromptsOnTheDeviceWorkOnStagingPages) {
  std::deque<Sequence> sequences;
  Batch batch;
  for (int i = 0; i < 6; ++i) {
    sequences.push_back(MakeSequence(7, i % 2 == 0 ? 0 : 6));
    sequences.back().block_table = {10 * i, 10 * i + 1, 10 * i + 2};
    batch.Add(&sequences.back());
  }
  batch.Cut({.num_micro_batches = 2,
             .attention = AttentionPlacement::kPrefillOnDevice,
             .kv_page_tokens = 3});
  ASSERT_EQ(batch.micro_batches().size(), 2u);
  int num_prompts = 0;
  for (const MicroBatch& part : batch.micro_batches()) {
    for (const AttentionSequence& sequence : batch.host_attention(part)) {
      EXPECT_EQ(sequence.num_tokens, 1);
      EXPECT_EQ(sequence.num_cached_tokens, 6);
    }
    EXPECT_TRUE(batch.kv_loads(part).empty());
    int32_t next_page = 0;
    int32_t next_row = 0;
    for (const AttentionSequence& sequence : batch.device_attention(part)) {
      ++num_prompts;
      EXPECT_EQ(sequence.num_tokens, 7);
      EXPECT_EQ(sequence.first_row, next_row);
      next_row += 7;
      for (int page = 0; page < 3; ++page) EXPECT_EQ(sequence.block_table[page], next_page++);
    }
    EXPECT_EQ(part.row_end - part.host_row_end, next_row);
    EXPECT_EQ(static_cast<int32_t>(batch.kv_offloads(part).size()), next_page);
    for (const PageCopy& copy : batch.kv_offloads(part)) {
      EXPECT_EQ(copy.dst_page % 10, copy.src_page % 3) << "in the order of positions";
    }
  }
  EXPECT_EQ(num_prompts, 3);
}

// With all attention on the device, cached pages are loaded and the one with the new token goes
// back.
TEST(BatchTest, DecodeOnTheDeviceLoadsWhatIsCached) {
  Sequence sequence = MakeSequence(8, 7);
  sequence.block_table = {4, 5, 6};
  Batch batch;
  batch.Add(&sequence);
  batch.Cut({.attention = AttentionPlacement::kDevice, .kv_page_tokens = 3});
  const MicroBatch& part = batch.micro_batches()[0];
  EXPECT_FALSE(part.has_host_rows());
  EXPECT_EQ(batch.kv_loads(part).size(), 3u);
  ASSERT_EQ(batch.kv_offloads(part).size(), 1u);
  EXPECT_EQ(batch.kv_offloads(part)[0].dst_page, 6);
}

// Bounds make more parts than asked for, but no more than they must.
TEST(BatchTest, KeepsItsBounds) {
  std::deque<Sequence> sequences;
  Batch batch;
  for (int i = 0; i < 40; ++i) {
    sequences.push_back(MakeSequence(5, 0));
    batch.Add(&sequences.back());
  }
  batch.Cut({.num_micro_batches = 2, .max_rows = 30});
  EXPECT_EQ(batch.micro_batches().size(), 7u);
  for (const MicroBatch& part : batch.micro_batches()) EXPECT_LE(part.num_rows(), 30);
  batch.Cut({.num_micro_batches = 2,
             .attention = AttentionPlacement::kDevice,
             .max_staging_pages = 12,
             .kv_page_tokens = 4});
  EXPECT_EQ(batch.micro_batches().size(), 7u);
  for (const MicroBatch& part : batch.micro_batches()) {
    EXPECT_LE(batch.kv_offloads(part).size(), 12u);
  }
}

}  // namespace
}  // namespace moelight
