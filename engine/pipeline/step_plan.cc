#include "engine/pipeline/step_plan.h"

#include <iterator>
#include <string>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

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
    {"post_attn", Lane::kGpu},
    {"logits", Lane::kGpu},
};

constexpr Schedule kSchedules[] = {
    {"serial", "one task at a time, no overlap", BuildSerial},
};

}  // namespace

absl::string_view TaskKindName(TaskKind kind) { return kKinds[static_cast<int>(kind)].name; }

Lane TaskLane(TaskKind kind) { return kKinds[static_cast<int>(kind)].lane; }

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
