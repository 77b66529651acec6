// MemoryBudget: where every byte will go, added up before anything is allocated.
//
// The same budget that proves that a plan fits is printed by `moelightd plan` and sizes the arenas.
// Pure values; no threads, no allocation of the memory itself.
#ifndef MOELIGHT_ENGINE_MEMORY_MEMORY_BUDGET_H_
#define MOELIGHT_ENGINE_MEMORY_MEMORY_BUDGET_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight {

enum class MemoryTier : uint8_t { kHost, kGpu };
absl::string_view MemoryTierName(MemoryTier tier);  // "host", "gpu"

struct BudgetLine {
  MemoryTier tier;
  std::string tag;  // "weights", "kv_cache", "activations", "scratch"
  int64_t bytes;
};

class MemoryBudget {
 public:
  void Add(MemoryTier tier, absl::string_view tag, int64_t bytes);
  int64_t Total(MemoryTier tier) const;
  const std::vector<BudgetLine>& lines() const { return lines_; }
  // ResourceExhausted listing every line of the tier if it needs more than `limit_bytes`, which
  // came from configuration key `key`.
  absl::Status CheckFits(MemoryTier tier, int64_t limit_bytes, absl::string_view key) const;

 private:
  std::vector<BudgetLine> lines_;
};

// What the kernel says can be taken without swapping (MemAvailable, and the cgroup's limit if
// lower).
absl::StatusOr<int64_t> AvailableHostMemoryBytes();

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MEMORY_MEMORY_BUDGET_H_
