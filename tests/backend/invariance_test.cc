// Goal: the result for a token has the same bits whatever else is in the call, however a prompt is
// cut into calls, and on any number of threads. Dense products by cuBLAS are equal but for
// rounding.
#include <numeric>

#include <gtest/gtest.h>

#include "tests/backend/paged_kv.h"

namespace moelight {
namespace {

class InvarianceTest : public testing::TestWithParam<BackendCase> {
 protected:
  // How far dense products of a row may be apart; 0: not one bit.
  double dense_tolerance() const { return GetParam().has_exact_dense_products ? 0 : 1e-4; }

  TestBackend tested_{GetParam()};
};

constexpr int64_t kBatch = 300;

constexpr std::pair<int64_t, int64_t> kBatchParts[] = {{0, 1},     {299, 300}, {5, 7},   {17, 20},
                                                       {100, 107}, {30, 43},   {50, 66}, {0, 33},
                                                       {100, 229}, {7, 264}};

// Runs `op` on all rows, then on parts of them, and expects the same rows; with `tolerance`, close
// ones.
template <typename Op>
void ExpectRowsIndependent(const Matrix& x, const Op& op, double tolerance = 0,
                           absl::Span<const std::pair<int64_t, int64_t>> parts = kBatchParts) {
  const Matrix whole = op(x);
  for (const auto& [begin, end] : parts) {
    SCOPED_TRACE(testing::Message() << "rows " << begin << " to " << end);
    const Matrix part = op(x.Rows(begin, end));
    if (tolerance > 0) {
      ExpectClose(part, whole.Rows(begin, end), tolerance);
    } else {
      ExpectSame(part, whole.Rows(begin, end));
    }
  }
}

TEST_P(InvarianceTest, MatMul) {
  for (int64_t cols : {24, 101, 128, 800}) {
    for (int64_t rows : {8, 100, 1000}) {
      const PackedWeight weight(tested_.backend->weight_format(), RandomBf16Matrix(rows, cols, 1));
      for (bool accumulate : {false, true}) {
        ExpectRowsIndependent(
            RandomMatrix(kBatch, cols, 2),
            [&](Matrix x) {
              Matrix y(x.rows, rows);
              y.values.assign(y.values.size(), 0.75f);
              CHECK(tested_.ops().MatMul({x.view(), weight.matrix(), y.view(), accumulate}).ok());
              return y;
            },
            dense_tolerance());
      }
    }
  }
}

TEST_P(InvarianceTest, RmsNorm) {
  Matrix weight = RandomMatrix(1, 100, 1);
  ExpectRowsIndependent(RandomMatrix(kBatch, 100, 2), [&](Matrix x) {
    Matrix y(x.rows, x.cols);
    CHECK(tested_.ops().RmsNorm({x.view(), weight.vector(), 1e-5f, y.view()}).ok());
    return y;
  });
}

TEST_P(InvarianceTest, RouterAndMoeFfn) {
  Matrix router = RandomMatrix(7, 100, 1);
  std::vector<PackedFfn> experts;
  std::vector<FfnWeights> weights;
  for (uint32_t e = 0; e < 7; ++e) {
    experts.emplace_back(tested_.backend->expert_format(), 100, 60, 10 * e);
    weights.push_back(experts.back().weights());
  }
  ExpectRowsIndependent(RandomMatrix(kBatch, 100, 2), [&](Matrix x) {
    RoutingBuffers routing(x.rows, 7, 3);
    CHECK(tested_.ops().Router({x.view(), router.view(), 3, true, routing.routing()}).ok());
    Matrix y(x.rows, x.cols);
    CHECK(tested_.ops().MoeFfn({x.view(), routing.routing(), weights, y.view(), {}}).ok());
    return y;
  });
}

TEST_P(InvarianceTest, DenseFfn) {
  const PackedFfn ffn(tested_.backend->weight_format(), 40, 100, 1);
  // Another rounding of a sum may round a hidden value to the next bf16.
  const double ffn_tolerance = dense_tolerance() > 0 ? 2e-3 : 0;
  ExpectRowsIndependent(
      RandomMatrix(kBatch, 40, 2),
      [&](Matrix x) {
        Matrix y(x.rows, x.cols);
        CHECK(tested_.ops().DenseFfn({x.view(), ffn.weights(), y.view()}).ok());
        return y;
      },
      ffn_tolerance);
}

// Rows in several tasks and waves, weights in several passes.
TEST_P(InvarianceTest, ManyRows) {
  const std::pair<int64_t, int64_t> kParts[] = {{0, 1},     {511, 513}, {100, 612}, {3, 1027},
                                                {500, 517}, {700, 731}, {64, 193},  {0, 513}};
  const PackedWeight weight(tested_.backend->weight_format(), RandomBf16Matrix(100, 1000, 1));
  const PackedFfn ffn(tested_.backend->weight_format(), 40, 1030, 1);
  std::vector<PackedFfn> experts;
  std::vector<FfnWeights> weights;
  for (uint32_t e = 0; e < 3; ++e) {
    experts.emplace_back(tested_.backend->expert_format(), 40, 530, 10 * e);
    weights.push_back(experts.back().weights());
  }
  Matrix router = RandomMatrix(3, 40, 1);
  ExpectRowsIndependent(
      RandomMatrix(1100, 1000, 2),
      [&](Matrix x) {
        Matrix y(x.rows, 100);
        CHECK(tested_.ops().MatMul({x.view(), weight.matrix(), y.view()}).ok());
        return y;
      },
      dense_tolerance(), kParts);
  ExpectRowsIndependent(
      RandomMatrix(1100, 40, 2),
      [&](Matrix x) {
        Matrix y(x.rows, x.cols);
        CHECK(tested_.ops().DenseFfn({x.view(), ffn.weights(), y.view()}).ok());
        return y;
      },
      dense_tolerance() > 0 ? 2e-3 : 0, kParts);
  ExpectRowsIndependent(
      RandomMatrix(1100, 40, 2),
      [&](Matrix x) {
        RoutingBuffers routing(x.rows, 3, 2);
        CHECK(tested_.ops().Router({x.view(), router.view(), 2, true, routing.routing()}).ok());
        Matrix y(x.rows, x.cols);
        CHECK(tested_.ops().MoeFfn({x.view(), routing.routing(), weights, y.view(), {}}).ok());
        return y;
      },
      0, kParts);
}

TEST_P(InvarianceTest, PromptInAnyPartsOrTokenByToken) {
  for (int32_t window : {0, 50}) {
    for (const HeadGeometry& heads : {HeadGeometry{4, 2, 32}, HeadGeometry{8, 1, 24}}) {
      const PagedAttention setup(heads, 16, window);
      const Matrix whole = setup.RunInParts(tested_, {150});
      ExpectSame(setup.RunInParts(tested_, std::vector<int32_t>(150, 1)), whole);
      ExpectSame(setup.RunInParts(tested_, {1, 16, 63, 70}), whole);
      ExpectSame(setup.RunInParts(tested_, {149, 1}), whole);
    }
  }
}

TEST_P(InvarianceTest, AttentionBesideOtherSequences) {
  const PagedAttention setup({4, 2, 32}, 16, 0);
  const Matrix alone = setup.Run(tested_, {{90, 1}});
  const Matrix beside = setup.Run(tested_, {{90, 1}, {0, 170}, {3, 1}, {500, 2}});
  ExpectSame(beside.Rows(0, 1), alone);
}

// Alone on several threads it is split into pieces, beside others of its length it is not.
TEST_P(InvarianceTest, AttentionOfALongSequence) {
  const PagedAttention setup({4, 2, 16}, 16, 0);
  const Matrix alone = setup.Run(tested_, {{2500, 1}});
  const Matrix beside = setup.Run(tested_, std::vector<NewTokens>(30, NewTokens{2500, 1}));
  ExpectSame(beside.Rows(0, 1), alone);
}

TEST_P(InvarianceTest, PageSize) {
  const Matrix expected = PagedAttention({4, 2, 32}, 16, 0).Run(tested_, {{90, 1}, {0, 70}});
  for (int32_t page_tokens : {1, 7, 64, 256}) {
    ExpectSame(PagedAttention({4, 2, 32}, page_tokens, 0).Run(tested_, {{90, 1}, {0, 70}}),
               expected);
  }
}

INSTANTIATE_TEST_SUITE_P(All, InvarianceTest, testing::ValuesIn(BackendCases()),
                         [](const auto& info) { return BackendCaseName(info.param); });

TEST(ThreadInvarianceTest, AnyNumberOfThreads) {
  const PagedAttention attention({4, 2, 32}, 16, 0);
  const std::vector<NewTokens> batch = {{0, 200}, {333, 1}, {10, 40}, {64, 1}, {2500, 1}};
  Matrix x = RandomMatrix(kBatch, 200, 2);
  Matrix tokens = RandomMatrix(kBatch, 40, 2);
  Matrix product, attended, dense;
  for (int num_threads : {1, 2, 3, 5}) {
    TestBackend tested({"cpu", "", num_threads});
    const PackedWeight weight(tested.backend->weight_format(), RandomBf16Matrix(513, 200, 1));
    Matrix y(kBatch, 513);
    ASSERT_TRUE(tested.ops().MatMul({x.view(), weight.matrix(), y.view()}).ok());
    const PackedFfn ffn(tested.backend->weight_format(), 40, 530, 1);
    Matrix ffn_out(kBatch, 40);
    ASSERT_TRUE(tested.ops().DenseFfn({tokens.view(), ffn.weights(), ffn_out.view()}).ok());
    const Matrix out = attention.Run(tested, batch);
    if (num_threads > 1) {
      ExpectSame(y, product);
      ExpectSame(out, attended);
      ExpectSame(ffn_out, dense);
    }
    product = y;
    attended = out;
    dense = ffn_out;
  }
}

}  // namespace
}  // namespace moelight
