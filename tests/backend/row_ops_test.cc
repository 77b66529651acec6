// Goal: every variant of every backend computes the ops on rows like the reference, at awkward
// sizes: Embed, RmsNorm, MatMul, QkNormRope, Router, GatherRows, Copy.
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/backend/op_harness.h"

namespace moelight {
namespace {

constexpr int64_t kTokenCounts[] = {1, 2, 3, 7, 16, 17, 33, 65};

class RowOpsTest : public testing::TestWithParam<BackendCase> {
 protected:
  TestBackend reference_ = TestBackend::Reference();
  TestBackend tested_{GetParam()};
};

TEST_P(RowOpsTest, Embed) {
  for (int64_t hidden_size : {8, 24, 40, 100, 128}) {
    Matrix table = RandomBf16Matrix(50, hidden_size, 1);
    std::vector<BFloat16> table_bf16;
    for (float value : table.values) table_bf16.push_back(BFloat16::FromFloat(value));
    const std::vector<int32_t> ids = {0, 49, 7, 7, 31};
    for (const TensorView& view :
         {table.view(), TensorView::Make(table_bf16.data(), DType::kBF16, {50, hidden_size})}) {
      Matrix y(ids.size(), hidden_size);
      ASSERT_TRUE(tested_.ops().Embed({ids, view, y.view()}).ok());
      Matrix expected(ids.size(), hidden_size);
      ASSERT_TRUE(reference_.ops().Embed({ids, view, expected.view()}).ok());
      ExpectSame(y, expected);
    }
  }
}

TEST_P(RowOpsTest, RmsNorm) {
  for (int64_t num_tokens : kTokenCounts) {
    for (int64_t hidden_size : {1, 24, 40, 100, 128}) {
      Matrix x = RandomMatrix(num_tokens, hidden_size, 1);
      Matrix weight = RandomMatrix(1, hidden_size, 2);
      Matrix expected(num_tokens, hidden_size);
      RmsNormArgs args = {x.view(), weight.vector(), 1e-5f, expected.view()};
      ASSERT_TRUE(reference_.ops().RmsNorm(args).ok());
      args.y = x.view();  // in place
      ASSERT_TRUE(tested_.ops().RmsNorm(args).ok());
      ExpectClose(x, expected, 1e-6);
    }
  }
}

TEST_P(RowOpsTest, RmsNormOfZerosIsZero) {
  Matrix x(3, 40);
  Matrix weight(1, 40);
  weight.values.assign(40, 2.0f);
  ASSERT_TRUE(tested_.ops().RmsNorm({x.view(), weight.vector(), 1e-5f, x.view()}).ok());
  ExpectSame(x, Matrix(3, 40));
}

TEST_P(RowOpsTest, MatMul) {
  const struct {
    int64_t rows, cols;
  } kWeights[] = {{1, 1},    {8, 24},    {15, 40},   {16, 16},  {17, 100}, {47, 33},
                  {64, 128}, {100, 385}, {128, 384}, {33, 800}, {1000, 24}};
  for (const auto& shape : kWeights) {
    const Matrix source = RandomBf16Matrix(shape.rows, shape.cols, 3);
    const PackedWeight packed(tested_.backend->weight_format(), source);
    const PackedWeight plain(reference_.backend->weight_format(), source);
    for (int64_t num_tokens : kTokenCounts) {
      for (bool accumulate : {false, true}) {
        Matrix x = RandomMatrix(num_tokens, shape.cols, 4);
        Matrix y = RandomMatrix(num_tokens, shape.rows, 5);
        Matrix expected = y;
        ASSERT_TRUE(tested_.ops().MatMul({x.view(), packed.matrix(), y.view(), accumulate}).ok());
        ASSERT_TRUE(
            reference_.ops().MatMul({x.view(), plain.matrix(), expected.view(), accumulate}).ok());
        SCOPED_TRACE(testing::Message() << num_tokens << " tokens, weight [" << shape.rows << ", "
                                        << shape.cols << "]");
        ExpectClose(y, expected, GetParam().tolerance);
      }
    }
  }
}

// Around the sizes of register tiles, AMX tiles, passes and tasks, and several waves.
TEST_P(RowOpsTest, MatMulOfManyRows) {
  const struct {
    int64_t rows, cols;
  } kWeights[] = {{80, 72}, {37, 31}, {50, 2}, {17, 515}, {530, 100}, {35, 1023}};
  for (const auto& shape : kWeights) {
    const Matrix source = RandomBf16Matrix(shape.rows, shape.cols, 3);
    const PackedWeight packed(tested_.backend->weight_format(), source);
    const PackedWeight plain(reference_.backend->weight_format(), source);
    Matrix all = RandomMatrix(1100, shape.cols, 4);
    Matrix expected(1100, shape.rows);
    ASSERT_TRUE(reference_.ops().MatMul({all.view(), plain.matrix(), expected.view()}).ok());
    for (int64_t num_tokens : {1, 15, 16, 17, 31, 33, 127, 128, 129, 511, 513, 1100}) {
      SCOPED_TRACE(testing::Message()
                   << num_tokens << " tokens, weight [" << shape.rows << ", " << shape.cols << "]");
      Matrix x = all.Rows(0, num_tokens);
      Matrix y(num_tokens, shape.rows);
      ASSERT_TRUE(tested_.ops().MatMul({x.view(), packed.matrix(), y.view()}).ok());
      ExpectClose(y, expected.Rows(0, num_tokens), GetParam().tolerance);
    }
  }
}

TEST_P(RowOpsTest, QkNormRope) {
  const HeadGeometry kGeometries[] = {{4, 2, 16}, {4, 4, 32},  {2, 1, 64},
                                      {8, 2, 80}, {1, 1, 128}, {3, 3, 24}};
  for (HeadGeometry heads : kGeometries) {
    OpLimits limits = TestLimits();
    limits.heads = heads;
    ASSERT_TRUE(tested_.backend->Reserve(limits).ok());
    Matrix inv_freq(1, heads.head_dim / 2);
    for (int32_t i = 0; i < heads.head_dim / 2; ++i) {
      inv_freq.values[i] = std::pow(10000.0f, -2.0f * i / heads.head_dim);
    }
    Matrix q_norm = RandomMatrix(1, heads.head_dim, 6);
    Matrix k_norm = RandomMatrix(1, heads.head_dim, 7);
    for (bool norm : {false, true}) {
      const std::vector<int32_t> positions = {0, 1, 17, 4095, 2, 300, 5};
      Matrix qkv = RandomMatrix(positions.size(), heads.qkv_size(), 8);
      Matrix expected = qkv;
      QkNormRopeArgs args = {.qkv = qkv.view(),
                             .heads = heads,
                             .positions = positions,
                             .q_norm = norm ? q_norm.vector() : TensorView(),
                             .k_norm = norm ? k_norm.vector() : TensorView(),
                             .epsilon = 1e-6f,
                             .inv_freq = inv_freq.vector()};
      ASSERT_TRUE(tested_.ops().QkNormRope(args).ok());
      args.qkv = expected.view();
      ASSERT_TRUE(reference_.ops().QkNormRope(args).ok());
      ExpectClose(qkv, expected, 1e-6);
      // Values are not touched.
      ExpectSame(Matrix(qkv).Rows(0, 0), expected.Rows(0, 0));
    }
  }
}

// A model with two rotary bases would otherwise get the table of the first.
TEST_P(RowOpsTest, QkNormRopeFollowsChangedFrequencies) {
  const HeadGeometry heads = {1, 1, 32};
  OpLimits limits = TestLimits();
  limits.heads = heads;
  ASSERT_TRUE(tested_.backend->Reserve(limits).ok());
  const std::vector<int32_t> positions = {3, 9};
  for (float frequency : {1.0f, 0.5f, 1.0f}) {
    Matrix inv_freq(1, 16);
    inv_freq.values.assign(16, frequency);
    Matrix qkv = RandomMatrix(2, heads.qkv_size(), 8);
    Matrix expected = qkv;
    QkNormRopeArgs args;
    args.qkv = qkv.view();
    args.heads = heads;
    args.positions = positions;
    args.inv_freq = inv_freq.vector();
    ASSERT_TRUE(tested_.ops().QkNormRope(args).ok());
    args.qkv = expected.view();
    ASSERT_TRUE(reference_.ops().QkNormRope(args).ok());
    ExpectClose(qkv, expected, 1e-6);
  }
}

TEST_P(RowOpsTest, Router) {
  for (int64_t num_experts : {1, 3, 8, 17, 32}) {
    for (int64_t num_kept : {1, 2, 8}) {
      if (num_kept > num_experts) continue;
      for (int64_t num_tokens : kTokenCounts) {
        for (bool normalize : {false, true}) {
          Matrix x = RandomMatrix(num_tokens, 100, 9);
          Matrix weight = RandomMatrix(num_experts, 100, 10, 0.1f);
          RoutingBuffers routing(num_tokens, num_experts, num_kept);
          RoutingBuffers expected(num_tokens, num_experts, num_kept);
          RouterArgs args = {x.view(), weight.view(), static_cast<int32_t>(num_kept), normalize,
                             routing.routing()};
          ASSERT_TRUE(tested_.ops().Router(args).ok());
          args.routing = expected.routing();
          ASSERT_TRUE(reference_.ops().Router(args).ok());
          EXPECT_EQ(routing.expert_ids, expected.expert_ids);
          EXPECT_EQ(routing.expert_offsets, expected.expert_offsets);
          EXPECT_EQ(routing.slot_tokens, expected.slot_tokens);
          EXPECT_EQ(routing.token_slots, expected.token_slots);
          EXPECT_LE(RelativeError(routing.gates, expected.gates), 1e-5);
        }
      }
    }
  }
}

// Checked without the reference, which shares the grouping.
TEST_P(RowOpsTest, RouterGroupsTokensByExpert) {
  Matrix x = RandomMatrix(33, 24, 9);
  Matrix weight = RandomMatrix(5, 24, 10);
  RoutingBuffers routing(33, 5, 2);
  ASSERT_TRUE(tested_.ops().Router({x.view(), weight.view(), 2, false, routing.routing()}).ok());
  EXPECT_EQ(routing.expert_offsets.front(), 0);
  EXPECT_EQ(routing.expert_offsets.back(), 66);
  for (int32_t e = 0; e < 5; ++e) {
    for (int32_t slot = routing.expert_offsets[e]; slot < routing.expert_offsets[e + 1]; ++slot) {
      const int32_t token = routing.slot_tokens[slot];
      const int32_t k = routing.expert_ids[2 * token] == e ? 0 : 1;
      EXPECT_EQ(routing.expert_ids[2 * token + k], e);
      EXPECT_EQ(routing.token_slots[2 * token + k], slot);
      if (slot > routing.expert_offsets[e]) {
        EXPECT_LT(routing.slot_tokens[slot - 1], token);
      }
    }
  }
}

TEST_P(RowOpsTest, RouterTiesGoToTheLowerId) {
  Matrix x = RandomMatrix(4, 16, 9);
  Matrix weight(20, 16);  // all logits are zero
  RoutingBuffers routing(4, 20, 3);
  ASSERT_TRUE(tested_.ops().Router({x.view(), weight.view(), 3, true, routing.routing()}).ok());
  for (int64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(routing.expert_ids[i], i % 3);
    EXPECT_NEAR(routing.gates[i], 1.0f / 3, 1e-6);
  }
}

TEST_P(RowOpsTest, RouterGivesValidIdsForNan) {
  Matrix x(2, 16);
  x.values.assign(32, std::numeric_limits<float>::quiet_NaN());
  Matrix weight = RandomMatrix(6, 16, 1);
  RoutingBuffers routing(2, 6, 2);
  ASSERT_TRUE(tested_.ops().Router({x.view(), weight.view(), 2, true, routing.routing()}).ok());
  for (int32_t id : routing.expert_ids) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, 6);
  }
}

TEST_P(RowOpsTest, GatherRowsAndCopy) {
  Matrix x = RandomMatrix(9, 33, 1);
  const std::vector<int32_t> rows = {8, 0, 0, 5};
  Matrix y(4, 33);
  ASSERT_TRUE(tested_.ops().GatherRows({x.view(), rows, y.view()}).ok());
  for (size_t i = 0; i < rows.size(); ++i) {
    ExpectSame(y.Rows(i, i + 1), x.Rows(rows[i], rows[i] + 1));
  }
  Matrix copy(9, 33);
  ASSERT_TRUE(tested_.ops().Copy(x.view(), copy.view()).ok());
  ExpectSame(copy, x);
}

TEST_P(RowOpsTest, NoTokensIsNoWork) {
  Matrix x(0, 24);
  Matrix y(0, 40);
  Matrix norm(1, 24);
  const PackedWeight weight(tested_.backend->weight_format(), RandomBf16Matrix(40, 24, 1));
  EXPECT_TRUE(tested_.ops().MatMul({x.view(), weight.matrix(), y.view()}).ok());
  EXPECT_TRUE(tested_.ops().RmsNorm({x.view(), norm.vector(), 1e-5f, x.view()}).ok());
}

INSTANTIATE_TEST_SUITE_P(All, RowOpsTest, testing::ValuesIn(BackendCases()),
                         [](const auto& info) { return BackendCaseName(info.param); });

TEST(OpChecksDeathTest, WrongShapesAreBugs) {
  TestBackend reference = TestBackend::Reference();
  Matrix x(2, 24);
  Matrix y(2, 40);
  const PackedWeight weight(reference.backend->weight_format(), Matrix(40, 25));
  EXPECT_DEATH(reference.backend->MatMul({x.view(), weight.matrix(), y.view()}, *reference.stream)
                   .IgnoreError(),
               "is \\[2, 24\\] f32, expected \\[2, 25\\] f32");
  const std::vector<int32_t> ids = {0, 40};
  EXPECT_DEATH(reference.backend->Embed({ids, y.view(), y.view()}, *reference.stream).IgnoreError(),
               "token 40 of 2");
}

}  // namespace
}  // namespace moelight
