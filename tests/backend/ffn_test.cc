// Goal: MoeFfn and DenseFfn of every variant like the reference, with experts that get no token,
// sizes that are no multiple of a tile, and more rows than a wave holds.
#include <cstring>

#include <gtest/gtest.h>

#include "tests/backend/op_harness.h"

namespace moelight {
namespace {

class FfnTest : public testing::TestWithParam<BackendCase> {
 protected:
  std::vector<PackedFfn> Experts(const TestBackend& backend, int64_t num_experts,
                                 int64_t hidden_size, int64_t intermediate_size) const {
    std::vector<PackedFfn> experts;
    for (int64_t e = 0; e < num_experts; ++e) {
      experts.emplace_back(backend.backend->expert_format(), hidden_size, intermediate_size,
                           static_cast<uint32_t>(100 + 2 * e));
    }
    return experts;
  }

  Matrix RunMoe(TestBackend& backend, Matrix x, int64_t num_experts, int64_t num_kept,
                int64_t intermediate_size, Matrix router) const {
    RoutingBuffers routing(x.rows, num_experts, num_kept);
    // Both route by the reference, so that a near tie does not compare different experts.
    TestBackend reference = TestBackend::Reference();
    CHECK(reference.ops()
              .Router({x.view(), router.view(), static_cast<int32_t>(num_kept), true,
                       routing.routing()})
              .ok());
    const std::vector<PackedFfn> packed = Experts(backend, num_experts, x.cols, intermediate_size);
    std::vector<FfnWeights> weights;
    for (const PackedFfn& expert : packed) weights.push_back(expert.weights());
    Matrix y = RandomMatrix(x.rows, x.cols, 77);
    CHECK(backend.ops().MoeFfn({x.view(), routing.routing(), weights, y.view(), {}}).ok());
    return y;
  }

  TestBackend reference_ = TestBackend::Reference();
  TestBackend tested_{GetParam()};
};

TEST_P(FfnTest, MoeFfn) {
  const struct {
    int64_t num_experts, num_kept, hidden_size, intermediate_size;
  } kLayers[] = {
      {1, 1, 16, 16}, {8, 2, 24, 40}, {3, 2, 40, 100}, {32, 8, 100, 7}, {4, 1, 128, 300}};
  for (const auto& layer : kLayers) {
    const Matrix router = RandomMatrix(layer.num_experts, layer.hidden_size, 5);
    for (int64_t num_tokens : {1, 2, 3, 7, 16, 17, 33, 65}) {
      SCOPED_TRACE(testing::Message() << num_tokens << " tokens, " << layer.num_experts
                                      << " experts, hidden " << layer.hidden_size);
      const Matrix x = RandomMatrix(num_tokens, layer.hidden_size, 6);
      ExpectClose(
          RunMoe(tested_, x, layer.num_experts, layer.num_kept, layer.intermediate_size, router),
          RunMoe(reference_, x, layer.num_experts, layer.num_kept, layer.intermediate_size, router),
          GetParam().tolerance);
    }
  }
}

// All tokens go to one expert: 700 rows of one, none of the others.
TEST_P(FfnTest, ExpertsWithoutTokens) {
  Matrix router(6, 24);
  for (int64_t i = 0; i < 24; ++i) router.values[4 * 24 + i] = 1.0f;
  Matrix x = RandomMatrix(700, 24, 6);
  for (float& value : x.values) value = std::abs(value);
  ExpectClose(RunMoe(tested_, x, 6, 1, 40, router), RunMoe(reference_, x, 6, 1, 40, router),
              GetParam().tolerance);
}

// 600 tokens * 4 experts are three waves or more of 1024 rows.
TEST_P(FfnTest, MoreRowsThanAWave) {
  const Matrix router = RandomMatrix(5, 24, 5);
  const Matrix x = RandomMatrix(600, 24, 6);
  ExpectClose(RunMoe(tested_, x, 5, 4, 40, router), RunMoe(reference_, x, 5, 4, 40, router),
              GetParam().tolerance);
}

// Around the sizes of register tiles, AMX tiles, passes, tasks and waves. All tokens go to expert 2
// and to one more; 4 and 5 get none.
TEST_P(FfnTest, OneHugeExpert) {
  const struct {
    int64_t hidden_size, intermediate_size;
  } kLayers[] = {{24, 1030}, {37, 51}, {128, 33}};
  for (const auto& layer : kLayers) {
    Matrix router = RandomMatrix(6, layer.hidden_size, 5, 0.01f);
    for (int64_t i = 0; i < layer.hidden_size; ++i) {
      router.values[2 * layer.hidden_size + i] = 1.0f;
      router.values[4 * layer.hidden_size + i] = -1.0f;
      router.values[5 * layer.hidden_size + i] = -1.0f;
    }
    for (int64_t num_tokens : {1, 15, 16, 17, 31, 33, 127, 128, 129, 511, 513, 1100}) {
      SCOPED_TRACE(testing::Message() << num_tokens << " tokens, hidden " << layer.hidden_size
                                      << ", intermediate " << layer.intermediate_size);
      Matrix x = RandomMatrix(num_tokens, layer.hidden_size, 6);
      for (float& value : x.values) value = std::abs(value);
      ExpectClose(RunMoe(tested_, x, 6, 2, layer.intermediate_size, router),
                  RunMoe(reference_, x, 6, 2, layer.intermediate_size, router),
                  GetParam().tolerance);
    }
  }
}

TEST_P(FfnTest, DenseFfnOfManyRows) {
  const PackedFfn packed(tested_.backend->weight_format(), 39, 523, 8);
  const PackedFfn plain(reference_.backend->weight_format(), 39, 523, 8);
  Matrix all = RandomMatrix(1100, 39, 6);
  Matrix expected = RandomMatrix(1100, 39, 7);
  const Matrix before = expected;
  ASSERT_TRUE(reference_.ops().DenseFfn({all.view(), plain.weights(), expected.view()}).ok());
  for (int64_t num_tokens : {1, 15, 16, 17, 31, 33, 127, 128, 129, 511, 513, 1100}) {
    SCOPED_TRACE(testing::Message() << num_tokens << " tokens");
    Matrix x = all.Rows(0, num_tokens);
    Matrix y = before.Rows(0, num_tokens);
    ASSERT_TRUE(tested_.ops().DenseFfn({x.view(), packed.weights(), y.view()}).ok());
    ExpectClose(y, expected.Rows(0, num_tokens), GetParam().tolerance);
  }
}

TEST_P(FfnTest, DenseFfn) {
  for (int64_t intermediate_size : {1, 7, 16, 40, 300, 512}) {
    for (int64_t num_tokens : {1, 2, 3, 7, 16, 17, 33, 65, 260}) {
      Matrix x = RandomMatrix(num_tokens, 100, 6);
      Matrix y = RandomMatrix(num_tokens, 100, 7);
      Matrix expected = y;
      const PackedFfn packed(tested_.backend->weight_format(), 100, intermediate_size, 8);
      const PackedFfn plain(reference_.backend->weight_format(), 100, intermediate_size, 8);
      ASSERT_TRUE(tested_.ops().DenseFfn({x.view(), packed.weights(), y.view()}).ok());
      ASSERT_TRUE(reference_.ops().DenseFfn({x.view(), plain.weights(), expected.view()}).ok());
      ExpectClose(y, expected, GetParam().tolerance);
    }
  }
}

// The experts of a layer, one after the other as in a home of weights, behind a page map: pages of
// 256 bytes, the first third resident, the others in a ring that they go around the end of.
struct PagedLayer {
  static constexpr int64_t kPageBytes = 256;

  PagedLayer(const WeightFormat& format, const std::vector<FfnWeights>& whole) {
    for (const FfnWeights& expert : whole) {
      for (const WeightMatrix* matrix : {&expert.gate_up, &expert.down}) {
        const char* data = static_cast<const char*>(matrix->data);
        storage.insert(storage.end(), data,
                       data + format.bytes(matrix->num_rows, matrix->num_cols));
      }
    }
    const int64_t num_pages = (static_cast<int64_t>(storage.size()) + kPageBytes - 1) / kPageBytes;
    storage.resize(num_pages * kPageBytes);
    pages.page_bytes = kPageBytes;
    pages.num_resident = num_pages / 3;
    pages.num_ring_slots = num_pages - pages.num_resident + 3;
    pages.first_slot = pages.num_ring_slots - 2;
    resident.assign(pages.num_resident * kPageBytes, '\xff');
    ring.assign(pages.num_ring_slots * kPageBytes, '\xff');
    pages.storage = storage.data();
    pages.resident = resident.data();
    pages.ring = ring.data();
    for (int64_t page = 0; page < num_pages; ++page) {
      std::memcpy(const_cast<char*>(pages.Address(page)), &storage[page * kPageBytes], kPageBytes);
    }
    MoveIn(format, whole);
    // NaN at home, so that reading it shows.
    storage.assign(storage.size(), '\xff');
  }

  // Gives the experts their places in `storage`.
  void MoveIn(const WeightFormat& format, const std::vector<FfnWeights>& whole) {
    const char* next = storage.data();
    for (FfnWeights expert : whole) {
      for (WeightMatrix* matrix : {&expert.gate_up, &expert.down}) {
        matrix->data = next;
        next += format.bytes(matrix->num_rows, matrix->num_cols);
      }
      experts.push_back(expert);
    }
  }

  std::vector<char> storage, resident, ring;
  std::vector<FfnWeights> experts;
  WeightPages pages;
};

TEST_P(FfnTest, PagedExpertsAreLikeWholeOnes) {
  const struct {
    int64_t num_experts, num_kept, hidden_size, intermediate_size;
  } kLayers[] = {{8, 2, 24, 40}, {3, 2, 40, 100}, {4, 1, 128, 300}, {1, 1, 16, 16}};
  for (const auto& layer : kLayers) {
    const std::vector<PackedFfn> packed =
        Experts(tested_, layer.num_experts, layer.hidden_size, layer.intermediate_size);
    std::vector<FfnWeights> whole;
    for (const PackedFfn& expert : packed) whole.push_back(expert.weights());
    PagedLayer paged(tested_.backend->expert_format(), whole);
    Matrix router = RandomMatrix(layer.num_experts, layer.hidden_size, 5);
    for (int64_t num_tokens : {1, 7, 65, 300}) {
      SCOPED_TRACE(testing::Message() << num_tokens << " tokens, " << layer.num_experts
                                      << " experts, hidden " << layer.hidden_size);
      Matrix x = RandomMatrix(num_tokens, layer.hidden_size, 6);
      RoutingBuffers routing(num_tokens, layer.num_experts, layer.num_kept);
      ASSERT_TRUE(reference_.ops()
                      .Router({x.view(), router.view(), static_cast<int32_t>(layer.num_kept), true,
                               routing.routing()})
                      .ok());
      Matrix expected = RandomMatrix(num_tokens, layer.hidden_size, 77);
      Matrix y = expected;
      ASSERT_TRUE(
          tested_.ops().MoeFfn({x.view(), routing.routing(), whole, expected.view(), {}}).ok());
      ASSERT_TRUE(tested_.ops()
                      .MoeFfn({x.view(), routing.routing(), paged.experts, y.view(), paged.pages})
                      .ok());
      ExpectSame(y, expected);
    }
  }
}

// silu saturates: large negative gates give zero, not NaN.
TEST_P(FfnTest, LargeGatesStayFinite) {
  for (float size : {1e4f, -1e4f}) {
    Matrix gate_up(32, 16);
    gate_up.values.assign(gate_up.values.size(), size);
    Matrix down(16, 16);
    for (int64_t i = 0; i < 16; ++i) down.values[i * 17] = 1.0f;
    const PackedWeight packed_gate_up(tested_.backend->weight_format(), gate_up);
    const PackedWeight packed_down(tested_.backend->weight_format(), down);
    Matrix x(1, 16);
    x.values.assign(16, 1.0f);
    Matrix y(1, 16);
    ASSERT_TRUE(tested_.ops()
                    .DenseFfn({x.view(), {packed_gate_up.matrix(), packed_down.matrix()}, y.view()})
                    .ok());
    const float sum = 16 * BFloat16::FromFloat(size).ToFloat();
    for (float value : y.values) {
      EXPECT_NEAR(value, size > 0 ? sum * sum : 0.0f, 1e-2f * sum * sum);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, FfnTest, testing::ValuesIn(BackendCases()),
                         [](const auto& info) { return BackendCaseName(info.param); });

}  // namespace
}  // namespace moelight
