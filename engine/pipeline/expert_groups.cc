#include "engine/pipeline/expert_groups.h"

#include "engine/base/ceil_div.h"

namespace moelight {
namespace {

constexpr int32_t kNumGroups = 2;

bool GroupsFit(int32_t num_micro_batches, int32_t per_group, int64_t max_group_rows,
               absl::FunctionRef<int64_t(int32_t)> num_rows) {
  int64_t group_rows = 0;
  for (int32_t j = 0; j < num_micro_batches; ++j) {
    if (j % per_group == 0) group_rows = 0;
    group_rows += num_rows(j);
    if (group_rows > max_group_rows) return false;
  }
  return true;
}

}  // namespace

int32_t MicroBatchesPerGroup(int32_t num_micro_batches, int64_t max_group_rows,
                             absl::FunctionRef<int64_t(int32_t)> num_rows) {
  if (num_micro_batches == 0 || max_group_rows == 0) return 1;
  int32_t per_group = static_cast<int32_t>(CeilDiv(num_micro_batches, kNumGroups));
  while (per_group > 1 && !GroupsFit(num_micro_batches, per_group, max_group_rows, num_rows)) {
    --per_group;
  }
  return per_group;
}

}  // namespace moelight
