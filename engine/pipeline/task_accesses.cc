#include "engine/pipeline/task_accesses.h"

namespace moelight {

namespace {

// Index, in the stream from this step's first page on, of a layer's page 0 in this step or the
// next.
int64_t StreamIndex(const WeightStream& weights, int32_t layer, bool ahead) {
  return weights.first_index(layer) + (ahead ? weights.num_pages() : int64_t{0});
}

}  // namespace

int64_t RingSlot(const WeightStream& weights, int32_t layer, int64_t page, bool ahead) {
  return (StreamIndex(weights, layer, ahead) + page) % weights.num_ring_slots;
}

std::vector<Access> AccessesOf(const Task& task, const PlanShape& shape) {
  const int64_t j = task.micro_batch;
  const auto read = [](Buffer buffer, int64_t index) {
    return Access{{buffer, index}, /*writes=*/false};
  };
  const auto write = [](Buffer buffer, int64_t index) {
    return Access{{buffer, index}, /*writes=*/true};
  };
  const int64_t staging = KvStagingOf(task, shape.num_micro_batches);
  const int64_t kv_pages = int64_t{task.layer} * shape.num_micro_batches + j;
  switch (task.kind) {
    case TaskKind::kEmbed:
      return {write(Buffer::kHidden, j)};
    case TaskKind::kPreAttn:
      return {read(Buffer::kHidden, j), write(Buffer::kQkvDevice, j)};
    case TaskKind::kOffloadQkv:
      return {read(Buffer::kQkvDevice, j), write(Buffer::kQkvHost, j)};
    case TaskKind::kAttn:
      return {read(Buffer::kQkvHost, j), write(Buffer::kKvPages, kv_pages),
              write(Buffer::kAttnHost, j)};
    case TaskKind::kLoadHidden:
      return {read(Buffer::kAttnHost, j), write(Buffer::kAttnHostRows, j)};
    case TaskKind::kLoadKv:
      return {read(Buffer::kKvPages, kv_pages), write(Buffer::kKvStaging, staging)};
    case TaskKind::kDeviceAttn:
      return {read(Buffer::kQkvDevice, j), write(Buffer::kKvStaging, staging),
              write(Buffer::kAttnDeviceRows, j)};
    case TaskKind::kOffloadKv:
      return {read(Buffer::kKvStaging, staging), write(Buffer::kKvPages, kv_pages)};
    case TaskKind::kPostAttn:
      return {read(Buffer::kAttnHostRows, j), read(Buffer::kAttnDeviceRows, j),
              write(Buffer::kHidden, j)};
    case TaskKind::kExperts: {
      std::vector<Access> accesses;
      for (int64_t k = j; k < j + task.num_micro_batches; ++k) {
        accesses.push_back(write(Buffer::kHidden, k));
      }
      if (!shape.weights.streams(task.layer)) return accesses;
      const WeightStream& weights = shape.weights;
      const int64_t first = StreamIndex(weights, task.layer, /*ahead=*/false);
      for (int64_t page = 0; page < weights.layer_pages[task.layer]; ++page) {
        accesses.push_back(read(Buffer::kRingSlot, (first + page) % weights.num_ring_slots));
      }
      return accesses;
    }
    case TaskKind::kLoadWeights: {
      std::vector<Access> accesses;
      const WeightStream& weights = shape.weights;
      const int64_t first = StreamIndex(weights, task.layer, task.ahead);
      for (int64_t page = weights.part_begin(task.layer, task.part);
           page < weights.part_end(task.layer, task.part); ++page) {
        accesses.push_back(write(Buffer::kRingSlot, (first + page) % weights.num_ring_slots));
      }
      return accesses;
    }
    case TaskKind::kLogits:
      return {read(Buffer::kHidden, j), write(Buffer::kLogitsDevice, j)};
    case TaskKind::kOffloadLogits:
      return {read(Buffer::kLogitsDevice, j), write(Buffer::kLogitsHost, j)};
  }
  return {};
}

}  // namespace moelight
