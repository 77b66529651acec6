// What each task reads and writes: the facts from which PlanBuilder derives edges and ValidatePlan
// proves that nothing is overwritten while in use.
#ifndef MOELIGHT_ENGINE_PIPELINE_TASK_ACCESSES_H_
#define MOELIGHT_ENGINE_PIPELINE_TASK_ACCESSES_H_

#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/pipeline/step_plan.h"

namespace moelight {

// Memory that tasks of several lanes touch. What only the device's compute lane uses is not listed:
// one lane runs one task at a time.
enum class Buffer : uint8_t {
  kHidden,  // by micro-batch, as all that follow unless stated
  kQkvDevice,
  kQkvHost,
  kAttnHost,
  kAttnHostRows,    // on the device: rows that attended on the host
  kAttnDeviceRows,  // on the device: rows that attended there
  kKvStaging,       // by copy
  kKvPages,         // of the host's cache, by layer and micro-batch
  kLogitsDevice,
  kLogitsHost,
  kRingSlot,  // by slot
};

struct Resource {
  Buffer buffer;
  int64_t index = 0;
  bool operator<(const Resource& other) const {
    return std::tie(buffer, index) < std::tie(other.buffer, other.index);
  }
  bool operator==(const Resource& other) const {
    return buffer == other.buffer && index == other.index;
  }
  template <typename H>
  friend H AbslHashValue(H hash, const Resource& resource) {
    return H::combine(std::move(hash), resource.buffer, resource.index);
  }
};

struct Access {
  Resource resource;
  bool writes = false;
};

// Slots are counted from the slot of the step's first streamed page.
std::vector<Access> AccessesOf(const Task& task, const PlanShape& shape);

// Ring slot of page `page` of a layer's streamed pages, in this step or the next.
int64_t RingSlot(const WeightStream& weights, int32_t layer, int64_t page, bool ahead);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_TASK_ACCESSES_H_
