// Goal: rows of every KV format come back as near as the format allows, and what a backend cannot
// take is refused by name.
#include "engine/backend/kv_format.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <absl/strings/match.h>
#include <gtest/gtest.h>

#include "tests/backend/op_harness.h"

namespace moelight {
namespace {

std::vector<float> RoundTrip(const std::vector<float>& x, DType dtype) {
  const int32_t head_dim = static_cast<int32_t>(x.size());
  std::vector<float> row(x.size());  // room for any format
  float scale = 0;
  StoreKvRow(x.data(), head_dim, dtype, row.data(), &scale);
  std::vector<float> back(x.size());
  LoadKvRow(row.data(), &scale, head_dim, dtype, back.data());
  return back;
}

TEST(KvFormatTest, NamesAndBytes) {
  for (const char* name : {"f32", "bf16", "f16", "int8"}) {
    const absl::StatusOr<DType> dtype = ParseKvFormat(name);
    ASSERT_TRUE(dtype.ok()) << dtype.status();
    EXPECT_EQ(KvFormatName(*dtype), name);
  }
  EXPECT_EQ(KvRowBytes(DType::kBF16, 128), 256);
  EXPECT_EQ(KvRowBytes(DType::kI8, 128), 132);
  EXPECT_EQ(ParseKvFormat("fp4").status().message(),
            "KV format \"fp4\" is unknown; there are f32, bf16, f16, int8");
}

TEST(KvFormatTest, RowsComeBack) {
  const Matrix x = RandomMatrix(1, 128, 7, 3.0f);
  EXPECT_EQ(RoundTrip(x.values, DType::kF32), x.values);
  EXPECT_LE(RelativeError(RoundTrip(x.values, DType::kBF16), x.values), std::ldexp(1.0, -9));
  EXPECT_LE(RelativeError(RoundTrip(x.values, DType::kF16), x.values), std::ldexp(1.0, -12));
  const std::vector<float> back = RoundTrip(x.values, DType::kI8);
  float largest = 0;
  for (float value : x.values) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < back.size(); ++i) {
    EXPECT_LE(std::fabs(back[i] - x.values[i]), largest / 127 * 0.5001f);
  }
}

TEST(KvFormatTest, Extremes) {
  EXPECT_EQ(RoundTrip({0, 0, 0, 0}, DType::kI8), (std::vector<float>{0, 0, 0, 0}));
  EXPECT_EQ(RoundTrip({-127, 127, 1, 0}, DType::kI8), (std::vector<float>{-127, 127, 1, 0}));
  EXPECT_EQ(RoundTrip({1e9f, -1e9f}, DType::kF16), (std::vector<float>{65504, -65504}));
}

TEST(KvFormatTest, WhatABackendCannotTakeIsRefused) {
  BackendOptions options;
  options.kv_format = "f32";
  EXPECT_TRUE(absl::StrContains(CreateBackend("cpu", options).status().message(),
                                "the cpu backend keeps K and V in bf16, f16 or int8"));
  options.kv_format = "int8";
  const auto backend = CreateBackend("cpu", options);
  ASSERT_TRUE(backend.ok()) << backend.status();
  OpLimits limits = TestLimits();
  limits.heads = {2, 2, 18};
  EXPECT_EQ((*backend)->CheckLimits(limits).message(),
            "head_dim is 18; the KV format int8 takes multiples of 4");
}

}  // namespace
}  // namespace moelight
