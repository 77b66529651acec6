// Goal: the levels of the process follow what it does.
#include "server/process_levels.h"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "tests/server/temp_folder.h"

namespace moelight {
namespace {

TEST(ProcessLevelsTest, MemoryThatIsTouchedIsResident) {
  constexpr int64_t kBytes = 64 << 20;
  const int64_t before = ResidentMemoryBytes();
  EXPECT_GT(before, 0);
  std::vector<char> memory(kBytes, 1);
  EXPECT_GE(ResidentMemoryBytes(), before + kBytes / 2);
  EXPECT_EQ(memory[kBytes / 2], 1);
}

TEST(ProcessLevelsTest, ADiskHasFreeSpaceAndNothingHasNone) {
  TempFolder folder;
  EXPECT_GT(FreeDiskBytes(folder.Write("x", "y")), 0);
  EXPECT_EQ(FreeDiskBytes("/nowhere/at/all"), 0);
}

}  // namespace
}  // namespace moelight
