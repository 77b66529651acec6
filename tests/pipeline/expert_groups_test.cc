// Goal: groups are half of the micro-batches, and smaller only where their rows would be too many.
#include "engine/pipeline/expert_groups.h"

#include <vector>

#include <gtest/gtest.h>

namespace moelight {
namespace {

struct Grouping {
  const char* name;
  std::vector<int64_t> rows;  // of each micro-batch
  int64_t max_group_rows;
  int32_t per_group;
};

TEST(ExpertGroupsTest, AreHalfOfTheMicroBatchesOrWhatFits) {
  const Grouping kGroupings[] = {
      {"nothing to group", {}, 100, 1},
      {"one", {50}, 100, 1},
      {"two are alone", {10, 10}, 100, 1},
      {"two and one", {10, 10, 10}, 100, 2},
      {"even halves", {10, 10, 10, 10}, 100, 2},
      {"three and two", {10, 10, 10, 10, 10}, 100, 3},
      {"just fits", {10, 10, 10, 10, 10}, 30, 3},
      {"a row too many", {10, 10, 11, 10, 10}, 30, 2},
      {"a row too many in the last", {10, 10, 10, 10, 10, 11}, 30, 2},
      {"one fills a group", {10, 10, 30, 10, 10}, 30, 1},
      {"one is larger than a group", {10, 10, 10, 10, 40}, 30, 1},
      {"off", {10, 10, 10, 10}, 0, 1},
  };
  for (const Grouping& grouping : kGroupings) {
    EXPECT_EQ(
        MicroBatchesPerGroup(static_cast<int32_t>(grouping.rows.size()), grouping.max_group_rows,
                             [&grouping](int32_t j) { return grouping.rows[j]; }),
        grouping.per_group)
        << grouping.name;
  }
}

}  // namespace
}  // namespace moelight
