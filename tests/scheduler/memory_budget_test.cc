// Goal: the budget adds up per tier and says which line and which key is in the way.
#include "engine/memory/memory_budget.h"

#include <gtest/gtest.h>

namespace moelight {
namespace {

TEST(MemoryBudgetTest, AddsUpByTier) {
  MemoryBudget budget;
  budget.Add(MemoryTier::kHost, "weights", 100);
  budget.Add(MemoryTier::kHost, "kv_cache", 20);
  budget.Add(MemoryTier::kGpu, "weights", 7);
  EXPECT_EQ(budget.Total(MemoryTier::kHost), 120);
  EXPECT_EQ(budget.Total(MemoryTier::kGpu), 7);
  EXPECT_TRUE(budget.CheckFits(MemoryTier::kHost, 120, "engine.host_memory").ok());
}

TEST(MemoryBudgetTest, TooMuchNamesLinesAndKey) {
  MemoryBudget budget;
  budget.Add(MemoryTier::kHost, "weights", 3 << 20);
  budget.Add(MemoryTier::kHost, "kv_cache", 2 << 20);
  const absl::Status status = budget.CheckFits(MemoryTier::kHost, 4 << 20, "engine.host_memory");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "the host needs 6 MiB (weights 3 MiB, kv_cache 2 MiB) but engine.host_memory allows 4 "
            "MiB");
}

TEST(MemoryBudgetTest, TheKernelTellsWhatIsFree) {
  const absl::StatusOr<int64_t> bytes = AvailableHostMemoryBytes();
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_GT(*bytes, 0);
}

}  // namespace
}  // namespace moelight
