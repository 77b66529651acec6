// Goal: workers get CPUs of their own, on cores of their own as long as there are any, and the
// first CPU is left to others if it can be.
#include "engine/base/cpu_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// CPUs 0 to 3 without siblings, but for 2, which the process may not use.
const std::vector<AllowedCpu> kPlain = {{0, 0}, {1, 1}, {3, 3}};
// Three cores of two CPUs each, numbered as on most servers: i and i + 3 share one.
const std::vector<AllowedCpu> kSiblings = {{0, 0}, {1, 1}, {2, 2}, {3, 0}, {4, 1}, {5, 2}};

TEST(CpuPlacementTest, TheFirstCpuIsLeftFreeIfItCanBe) {
  EXPECT_THAT(PlaceWorkers(kPlain, 1), ElementsAre(1));
  EXPECT_THAT(PlaceWorkers(kPlain, 2), ElementsAre(1, 3));
  EXPECT_THAT(PlaceWorkers(kPlain, 3), ElementsAre(0, 1, 3));
}

TEST(CpuPlacementTest, CoresComeBeforeSiblings) {
  EXPECT_THAT(PlaceWorkers(kSiblings, 2), ElementsAre(1, 2));
  // The one beside the free CPU has more of a core than one beside another worker.
  EXPECT_THAT(PlaceWorkers(kSiblings, 3), ElementsAre(1, 2, 3));
  EXPECT_THAT(PlaceWorkers(kSiblings, 5), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(PlaceWorkers(kSiblings, 6), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(CpuPlacementTest, NobodySharesACpu) {
  EXPECT_THAT(PlaceWorkers(kPlain, 4), IsEmpty());
  EXPECT_THAT(PlaceWorkers({}, 1), IsEmpty());
}

TEST(CpuPlacementTest, TheMachineIsSeen) {
  const absl::StatusOr<std::vector<AllowedCpu>> allowed = AllowedCpus();
  ASSERT_TRUE(allowed.ok()) << allowed.status();
  ASSERT_FALSE(allowed->empty());
  for (size_t i = 0; i < allowed->size(); ++i) {
    EXPECT_LE((*allowed)[i].core, (*allowed)[i].cpu);
    EXPECT_TRUE(i == 0 || (*allowed)[i].cpu > (*allowed)[i - 1].cpu);
  }
  const int num_cpus = static_cast<int>(allowed->size());
  EXPECT_TRUE(CheckCanPin(num_cpus).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckCanPin(num_cpus + 1)));
  EXPECT_EQ(AllowedCpus()->size(), allowed->size()) << "the trial left its mark";
}

}  // namespace
}  // namespace moelight
