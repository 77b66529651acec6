#include "engine/pipeline/step_plan.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <string>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/ceil_div.h"

namespace moelight {
namespace {

struct KindInfo {
  absl::string_view name;
  Lane lane;
};

// In the order of TaskKind.
constexpr KindInfo kKinds[] = {
    {"embed", Lane::kGpu},
    {"pre_attn", Lane::kGpu},
    {"offload_qkv", Lane::kDeviceToHost},
    {"attn", Lane::kCpu},
    {"load_hidden", Lane::kHostToDevice},
    {"load_kv", Lane::kHostToDevice},
    {"device_attn", Lane::kGpu},
    {"offload_kv", Lane::kDeviceToHost},
    {"post_attn", Lane::kGpu},
    {"experts", Lane::kGpu},
    {"load_weights", Lane::kHostToDevice},
    {"logits", Lane::kGpu},
    {"offload_logits", Lane::kDeviceToHost},
};
static_assert(std::size(kKinds) == kNumTaskKinds);

constexpr Schedule kSchedules[] = {
    {"cgopipe", "all lanes overlapped, attention on the CPU, weights in pages",
     /*decode_on_device=*/false, /*policy_coalesces=*/true, BuildCgopipe},
    {"serial", "one task at a time, no overlap", /*decode_on_device=*/false,
     /*policy_coalesces=*/true, BuildSerial},
    {"flexgen", "attention on the GPU, KV streamed, weights in one block per layer",
     /*decode_on_device=*/true, /*policy_coalesces=*/false, BuildFlexgen},
    {"flexgen_cpu", "attention on the CPU, overlapped only by one block of weights per layer",
     /*decode_on_device=*/false, /*policy_coalesces=*/false, BuildFlexgenCpu},
};

}  // namespace

absl::string_view TaskKindName(TaskKind kind) { return kKinds[static_cast<int>(kind)].name; }

Lane TaskLane(TaskKind kind) { return kKinds[static_cast<int>(kind)].lane; }

int32_t WeightStream::first_layer() const {
  for (int32_t layer = 0; layer < static_cast<int32_t>(layer_pages.size()); ++layer) {
    if (streams(layer)) return layer;
  }
  return -1;
}

int64_t WeightStream::first_index(int32_t layer) const {
  return std::accumulate(layer_pages.begin(), layer_pages.begin() + layer, int64_t{0});
}

int64_t WeightStream::num_pages() const {
  return first_index(static_cast<int32_t>(layer_pages.size()));
}

int32_t PlanShape::num_groups() const {
  return static_cast<int32_t>(CeilDiv(num_micro_batches, micro_batches_per_group));
}

int32_t PlanShape::group_size(int32_t micro_batch) const {
  return std::min(micro_batches_per_group, num_micro_batches - first_of_group(micro_batch));
}

absl::Span<const Schedule> Schedules() { return kSchedules; }

absl::StatusOr<const Schedule*> FindSchedule(absl::string_view name) {
  for (const Schedule& schedule : kSchedules) {
    if (schedule.name == name) return &schedule;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("schedule \"", name, "\" is not known; there are: ",
                   absl::StrJoin(kSchedules, ", ", [](std::string* out, const Schedule& schedule) {
                     absl::StrAppend(out, schedule.name);
                   })));
}

}  // namespace moelight
