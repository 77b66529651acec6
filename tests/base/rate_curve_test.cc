// Goal: between two points a curve goes along the logarithm of the size; beyond them it stays.
#include "engine/base/rate_curve.h"

#include <gtest/gtest.h>

namespace moelight {
namespace {

const RateCurve kCurve = {{{1, 10}, {16, 50}, {1024, 30}}};

TEST(RateCurveTest, InterpolatesAlongTheLogarithmOfTheSize) {
  const struct {
    double size;
    double rate;
  } rows[] = {
      {0, 10},   {0.5, 10},           {1, 10},    {2, 20},   {4, 30},  {8, 40}, {16, 50},
      {128, 40}, {64, 50 - 20.0 / 3}, {1024, 30}, {1e9, 30}, {-5, 10},
  };
  for (const auto& row : rows) EXPECT_NEAR(kCurve.At(row.size), row.rate, 1e-9) << row.size;
}

TEST(RateCurveTest, OnePointHoldsEverywhere) {
  const RateCurve curve = {{{64, 7}}};
  for (double size : {1.0, 64.0, 1e6}) EXPECT_EQ(curve.At(size), 7) << size;
}

TEST(RateCurveTest, EmptyIsZero) {
  const RateCurve curve;
  EXPECT_TRUE(curve.empty());
  EXPECT_EQ(curve.At(5), 0);
  EXPECT_EQ(curve.Peak(), 0);
}

TEST(RateCurveTest, PeakNeedNotBeTheLastPointAndScales) {
  RateCurve curve = kCurve;
  EXPECT_EQ(curve.Peak(), 50);
  curve.Scale(0.5);
  EXPECT_EQ(curve.Peak(), 25);
  EXPECT_NEAR(curve.At(4), 15, 1e-9);
}

}  // namespace
}  // namespace moelight
