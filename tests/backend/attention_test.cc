// Goal: Attention of every variant like the reference: head sizes, groups, windows, page
// boundaries, mixed prefill and decode.
#include <numeric>

#include <gtest/gtest.h>

#include "tests/backend/paged_kv.h"

namespace moelight {
namespace {

struct AttentionShape {
  HeadGeometry heads;
  int32_t page_tokens = 16;
  int32_t sliding_window = 0;
  std::vector<NewTokens> batch;
};

class AttentionTest : public testing::TestWithParam<BackendCase> {
 protected:
  void ExpectLikeReference(const AttentionShape& shape) {
    SCOPED_TRACE(testing::Message()
                 << shape.heads.num_attention_heads << "/" << shape.heads.num_key_value_heads
                 << " heads of " << shape.heads.head_dim << ", pages of " << shape.page_tokens
                 << ", window " << shape.sliding_window << ", " << shape.batch.size()
                 << " sequences, first " << shape.batch[0].num_cached << " + "
                 << shape.batch[0].num_new);
    const PagedAttention setup(shape.heads, shape.page_tokens, shape.sliding_window);
    ExpectClose(setup.Run(tested_, shape.batch), setup.Run(reference_, shape.batch),
                GetParam().tolerance);
  }

  TestBackend tested_{GetParam()};
  TestBackend reference_ = TestBackend::Reference(GetParam().kv_format);
};

TEST_P(AttentionTest, HeadSizesAndGroups) {
  for (int32_t head_dim : {16, 20, 24, 32, 64, 80, 96, 128, 192, 256}) {
    // Every size of head with a small group, and two of them with every size of group.
    const bool all_groups = head_dim == 20 || head_dim == 128;
    for (int32_t group_size : {1, 2, 4, 8, 16}) {
      if (!all_groups && group_size != 4) continue;
      const HeadGeometry heads = {2 * group_size, 2, head_dim};
      ExpectLikeReference({heads, 16, 0, {{0, 37}}});
      ExpectLikeReference({heads, 16, 0, {{99, 1}, {0, 1}, {64, 1}}});
    }
  }
}

TEST_P(AttentionTest, OneGroupLargerThanABlockOfRows) {
  ExpectLikeReference({{48, 1, 16}, 16, 0, {{70, 3}, {5, 1}}});
}

TEST_P(AttentionTest, PageBoundaries) {
  for (int32_t page_tokens : {1, 5, 16, 32, 64, 100}) {
    for (int32_t length : {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129}) {
      const HeadGeometry heads = {4, 2, 32};
      ExpectLikeReference({heads, page_tokens, 0, {{0, length}}});
      ExpectLikeReference({heads, page_tokens, 0, {{length, 1}}});
      ExpectLikeReference({heads, page_tokens, 0, {{length, 2}, {length - 1, 1}}});
    }
  }
}

TEST_P(AttentionTest, SlidingWindows) {
  for (int32_t window : {1, 2, 15, 16, 17, 63, 64, 65, 100, 1000}) {
    const HeadGeometry heads = {4, 2, 16};
    ExpectLikeReference({heads, 16, window, {{0, 150}}});
    ExpectLikeReference({heads, 16, window, {{150, 1}, {13, 1}, {64, 5}}});
  }
}

// A softmax starts anew every kSegmentKeys = 1024 positions; on several threads a long sequence is
// split there.
TEST_P(AttentionTest, SegmentBoundaries) {
  const HeadGeometry heads = {2, 1, 16};
  for (int32_t length : {1022, 1023, 1024, 2048, 3500}) {
    ExpectLikeReference({heads, 5, 0, {{length, 1}, {17, 1}}});
    ExpectLikeReference({heads, 16, 1500, {{length, 1}}});
  }
  ExpectLikeReference({heads, 16, 0, {{1000, 40}, {2040, 20}, {3000, 1}}});
  ExpectLikeReference({heads, 16, 1030, {{2040, 20}, {3000, 1}}});
}

TEST_P(AttentionTest, SoftCap) {
  if (GetParam().name == "cuda") GTEST_SKIP() << "not there yet";
  PagedAttention setup({8, 2, 64}, 16, 0);
  setup.set_query_scale(20.0f);
  setup.set_soft_cap(15.0f);
  const std::vector<NewTokens> batch = {{0, 70}, {200, 1}, {1500, 1}};
  const double tolerance = GetParam().tolerance > 1e-3 ? 0.05 : 1e-4;
  ExpectClose(setup.Run(tested_, batch), setup.Run(reference_, batch), tolerance);
}

// Below, among and far above the scores; the last leaves next to nothing of the values.
TEST_P(AttentionTest, Sinks) {
  if (GetParam().name == "cuda") GTEST_SKIP() << "not there yet";
  PagedAttention setup({8, 2, 64}, 16, 100);
  setup.set_sinks({-50.0f, -1.0f, 0.0f, 0.5f, 1.0f, 3.0f, 8.0f, 20.0f});
  const std::vector<NewTokens> batch = {{0, 70}, {0, 1}, {200, 1}, {1500, 1}};
  ExpectClose(setup.Run(tested_, batch), setup.Run(reference_, batch), GetParam().tolerance);
}

TEST_P(AttentionTest, MixedBatch) {
  ExpectLikeReference(
      {{8, 2, 32}, 16, 0, {{0, 200}, {333, 1}, {0, 1}, {17, 40}, {1000, 1}, {0, 3}, {64, 64}}});
}

// A window lets the scheduler take back pages that no later token sees; their entries are invalid.
TEST_P(AttentionTest, PagesBeforeTheWindowAreNotRead) {
  PagedAttention setup({4, 2, 32}, 16, /*sliding_window=*/20);
  const std::vector<NewTokens> batch = {{150, 4}};
  const Matrix expected = setup.Run(reference_, batch);
  setup.set_drop_pages_before_window(true);
  ExpectClose(setup.Run(tested_, batch), expected, GetParam().tolerance);
}

// The largest score is far from the others, in any key step; weights of the rest vanish.
TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  PagedAttention setup({2, 1, 32}, 16, 0);
  setup.set_query_scale(200.0f);
  const std::vector<NewTokens> batch = {{0, 130}, {200, 1}};
  // Scores in the hundreds, of queries rounded to bf16, are off by about one; to 16 bits, by 0.005.
  const double tolerance = GetParam().tolerance > 1e-3 ? 0.15 : 1e-4 + 10 * GetParam().tolerance;
  ExpectClose(setup.Run(tested_, batch), setup.Run(reference_, batch), tolerance);
}

const auto kCaseName = [](const auto& info) { return BackendCaseName(info.param); };
INSTANTIATE_TEST_SUITE_P(All, AttentionTest, testing::ValuesIn(BackendCases()), kCaseName);
INSTANTIATE_TEST_SUITE_P(KvFormats, AttentionTest, testing::ValuesIn(KvFormatCases()), kCaseName);

}  // namespace
}  // namespace moelight
