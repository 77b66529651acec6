// Goal: number formats convert as IEEE says, and views cut rows where they should.
#include "engine/base/tensor_view.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace moelight {
namespace {

TEST(BFloat16Test, RoundsToNearestEven) {
  struct Case {
    float value;
    uint16_t bits;
  };
  const Case cases[] = {
      {0.0f, 0x0000},
      {-0.0f, 0x8000},
      {1.0f, 0x3f80},
      {1.00390625f, 0x3f80},    // halfway between 0x3f80 and 0x3f81: to even
      {1.01171875f, 0x3f82},    // halfway between 0x3f81 and 0x3f82: to even
      {3.3895314e38f, 0x7f7f},  // the largest
      {std::numeric_limits<float>::max(), 0x7f80},
      {std::numeric_limits<float>::infinity(), 0x7f80},
  };
  for (const Case& c : cases) EXPECT_EQ(BFloat16::FromFloat(c.value).bits, c.bits) << c.value;
  EXPECT_TRUE(std::isnan(BFloat16::FromFloat(std::nanf("")).ToFloat()));
  EXPECT_TRUE(std::isnan(BFloat16::FromFloat(std::bit_cast<float>(0x7f800001u)).ToFloat()));
}

TEST(BFloat16Test, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const BFloat16 value{static_cast<uint16_t>(bits)};
    if (std::isnan(value.ToFloat())) continue;
    EXPECT_EQ(BFloat16::FromFloat(value.ToFloat()).bits, bits);
  }
}

TEST(Float16Test, Values) {
  EXPECT_EQ(Float16{0x3c00}.ToFloat(), 1.0f);
  EXPECT_EQ(Float16{0xc000}.ToFloat(), -2.0f);
  EXPECT_EQ(Float16{0x7bff}.ToFloat(), 65504.0f);
  EXPECT_EQ(Float16{0x0001}.ToFloat(), std::ldexp(1.0f, -24));
  EXPECT_TRUE(std::isinf(Float16{0x7c00}.ToFloat()));
  EXPECT_TRUE(std::isnan(Float16{0x7e00}.ToFloat()));
}

TEST(Float16Test, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Float16 value{static_cast<uint16_t>(bits)};
    if (std::isnan(value.ToFloat())) continue;
    EXPECT_EQ(Float16::FromFloat(value.ToFloat()).bits, bits);
  }
}

TEST(Float16Test, RoundsToNearestEven) {
  struct Case {
    float value;
    uint16_t bits;
  };
  const Case cases[] = {
      {1.00048828125f, 0x3c00},  // halfway between 0x3c00 and 0x3c01: to even
      {1.00146484375f, 0x3c02},  // halfway between 0x3c01 and 0x3c02: to even
      {65519.0f, 0x7bff},
      {65520.0f, 0x7c00},
      {-1e30f, 0xfc00},
      {std::ldexp(1.0f, -25), 0x0000},  // halfway between zero and the smallest: to even
      {std::ldexp(1.5f, -25), 0x0001},
      {std::ldexp(2047.5f, -25), 0x0400},  // up to the smallest normal number
  };
  for (const Case& c : cases) EXPECT_EQ(Float16::FromFloat(c.value).bits, c.bits) << c.value;
  EXPECT_TRUE(std::isnan(Float16::FromFloat(std::nanf("")).ToFloat()));
}

TEST(TensorViewTest, RowsShareTheMemory) {
  std::vector<float> data(12);
  const TensorView view = TensorView::Make(data.data(), DType::kF32, {4, 3});
  EXPECT_EQ(view.bytes(), 48);
  const TensorView rows = view.Rows(1, 3);
  EXPECT_EQ(rows.as<float>(), data.data() + 3);
  EXPECT_EQ(rows.ShapeString(), "[2, 3] f32");
  EXPECT_EQ(view.Rows(4, 4).num_elements(), 0);
}

}  // namespace
}  // namespace moelight
