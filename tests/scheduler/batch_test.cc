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

}  // namespace
}  // namespace moelight
