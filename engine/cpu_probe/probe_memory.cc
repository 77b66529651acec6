#include "engine/cpu_probe/probe_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/base/tensor_view.h"
#include "engine/memory/memory_budget.h"

namespace moelight {
namespace {

// Four times a cache, of which a pass over the rest leaves next to nothing; and never less than
// what is far beyond the caches that a virtual machine does not show.
constexpr int64_t kCacheFactor = 4;
constexpr int64_t kLeastColdBytes = int64_t{1} << 30;

// A huge page, which one thread makes and fills at a time.
constexpr int64_t kPieceBytes = int64_t{2} << 20;

std::vector<BFloat16> RandomNumbers(int64_t bytes) {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(-1.0f / 16, 1.0f / 16);
  std::vector<BFloat16> numbers(bytes / static_cast<int64_t>(sizeof(BFloat16)));
  for (BFloat16& number : numbers) number = BFloat16::FromFloat(uniform(random));
  return numbers;
}

}  // namespace

int64_t LastLevelCacheBytes() {
  return std::max({int64_t{0}, int64_t{sysconf(_SC_LEVEL2_CACHE_SIZE)},
                   int64_t{sysconf(_SC_LEVEL3_CACHE_SIZE)}});
}

int64_t NumColdPieces(int64_t piece_bytes, int64_t memory_bytes) {
  const int64_t cold_bytes = std::max(kLeastColdBytes, kCacheFactor * LastLevelCacheBytes());
  const int64_t num_cold = (cold_bytes + piece_bytes - 1) / piece_bytes;
  return std::max<int64_t>(1, std::min(num_cold, memory_bytes / piece_bytes));
}

absl::StatusOr<std::unique_ptr<ProbeMemory>> ProbeMemory::Create(int64_t bytes,
                                                                 ParallelRunner& runner) {
  ASSIGN_OR_RETURN(const int64_t available_bytes, AvailableHostMemoryBytes());
  if (bytes > available_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the probe reads ", bytes, " bytes of memory, and ", available_bytes, " are free"));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create("the probe", bytes));
  char* const data = static_cast<char*>(arena->Allocate(bytes));
  const std::vector<BFloat16> numbers = RandomNumbers(kPieceBytes);
  runner.For(bytes, kPieceBytes, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kPieceBytes) {
      std::memcpy(data + at, numbers.data(), std::min(kPieceBytes, end - at));
    }
  });
  return std::unique_ptr<ProbeMemory>(new ProbeMemory(std::move(arena), data, bytes));
}

}  // namespace moelight
