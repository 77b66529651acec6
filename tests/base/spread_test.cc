// Goal: a median is the middle turn, and of many figures the one that is trusted least is named.
#include "engine/base/spread.h"

#include <gtest/gtest.h>

namespace moelight {
namespace {

TEST(SpreadTest, MedianIsTheMiddleOfTheTurns) {
  const Spread spread = SpreadOf({5, 1, 4});
  EXPECT_EQ(spread.median, 4);
  EXPECT_EQ(spread.min, 1);
  EXPECT_EQ(spread.max, 5);
  EXPECT_EQ(spread.relative(), 1);
  EXPECT_EQ(SpreadOf({7}).relative(), 0);
  EXPECT_EQ(Spread().relative(), 0);
}

TEST(SpreadTest, TheWidestIsNamed) {
  WidestSpread widest;
  EXPECT_EQ(widest.ToText(), "no turns");
  widest.Add("calm", SpreadOf({10, 10, 10}));
  EXPECT_EQ(widest.ToText(), "turns differ by up to 0.0 % (calm)");
  widest.Add("wild", SpreadOf({8, 10, 13}));
  widest.Add("tame", SpreadOf({9, 10, 11}));
  EXPECT_EQ(widest.relative(), 0.5);
  EXPECT_EQ(widest.ToText(), "turns differ by up to 50.0 % (wild)");
}

}  // namespace
}  // namespace moelight
