#include "engine/memory/memory_budget.h"

#include <algorithm>
#include <fstream>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

namespace moelight {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

// The memory limit of this process's cgroup (version 2), or -1 if there is none.
int64_t CgroupLimitBytes() {
  std::ifstream file("/sys/fs/cgroup/memory.max");
  int64_t limit_bytes = -1;
  if (file >> limit_bytes) return limit_bytes;
  return -1;
}

}  // namespace

absl::string_view MemoryTierName(MemoryTier tier) {
  return tier == MemoryTier::kHost ? "host" : "gpu";
}

void MemoryBudget::Add(MemoryTier tier, absl::string_view tag, int64_t bytes) {
  lines_.push_back({tier, std::string(tag), bytes});
}

int64_t MemoryBudget::Total(MemoryTier tier) const {
  int64_t total = 0;
  for (const BudgetLine& line : lines_) {
    if (line.tier == tier) total += line.bytes;
  }
  return total;
}

absl::Status MemoryBudget::CheckFits(MemoryTier tier, int64_t limit_bytes,
                                     absl::string_view key) const {
  if (Total(tier) <= limit_bytes) return absl::OkStatus();
  std::string message = absl::StrCat("the ", MemoryTierName(tier), " needs ",
                                     static_cast<int64_t>(Total(tier) / kMiB) + 1, " MiB (");
  const char* separator = "";
  for (const BudgetLine& line : lines_) {
    if (line.tier != tier) continue;
    absl::StrAppend(&message, separator, line.tag, " ", static_cast<int64_t>(line.bytes / kMiB),
                    " MiB");
    separator = ", ";
  }
  absl::StrAppend(&message, ") but ", key, " allows ", static_cast<int64_t>(limit_bytes / kMiB),
                  " MiB");
  return absl::ResourceExhaustedError(message);
}

absl::StatusOr<int64_t> AvailableHostMemoryBytes() {
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" :"), absl::SkipEmpty());
    int64_t kib = 0;
    if (words.size() < 2 || words[0] != "MemAvailable" || !absl::SimpleAtoi(words[1], &kib))
      continue;
    const int64_t limit_bytes = CgroupLimitBytes();
    return limit_bytes > 0 ? std::min(kib * 1024, limit_bytes) : kib * 1024;
  }
  return absl::UnavailableError("/proc/meminfo does not tell MemAvailable; set engine.host_memory");
}

}  // namespace moelight
