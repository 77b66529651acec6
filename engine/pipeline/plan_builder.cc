#include "engine/pipeline/plan_builder.h"

#include <algorithm>
#include <utility>

#include "engine/base/check.h"

namespace moelight {

PlanBuilder::PlanBuilder(const PlanShape& shape) : shape_(shape), layer_used_(shape.num_layers) {
  const WeightStream& weights = shape.weights;
  const int32_t first = weights.first_layer();
  if (first < 0) return;
  for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
    first_index_.push_back(weights.first_index(layer));
  }
  for (int32_t layer = first + 1; layer < shape.num_layers; ++layer) {
    if (!weights.streams(layer)) continue;
    for (int32_t part = 0; part < weights.num_parts; ++part) loads_.push_back({layer, part, false});
  }
  for (int32_t part = 0; part < weights.num_parts; ++part) loads_.push_back({first, part, true});
}

int32_t PlanBuilder::Add(TaskKind kind, int32_t layer, int32_t micro_batch) {
  Task task = MakeTask(shape_, kind, layer, micro_batch);
  if (kind == TaskKind::kExperts &&
      micro_batch + task.num_micro_batches == shape_.num_micro_batches) {
    layer_used_[layer] = true;
  }
  return Append(std::move(task));
}

void PlanBuilder::AlsoAfter(int32_t before) {
  if (before >= 0) plan_.tasks.back().after.push_back(before);
}

void PlanBuilder::AddHead() {
  const int32_t first = shape_.weights.first_layer();
  if (first < 0) return;
  CHECK_EQ(num_tasks(), 0);
  for (int32_t part = 0; part < shape_.weights.num_parts; ++part) {
    Append(Task{TaskKind::kLoadWeights, first, 0, part, false, {}});
  }
  plan_.num_head_tasks = num_tasks();
}

int32_t PlanBuilder::Append(Task task) {
  const int32_t index = num_tasks();
  const int lane = static_cast<int>(TaskLane(task.kind));
  std::array<int32_t, kNumLanes> after = {-1, -1, -1, -1};
  const auto wait_for = [&](int32_t before) {
    if (before < 0) return;
    int32_t& last = after[static_cast<int>(TaskLane(plan_.tasks[before].kind))];
    last = std::max(last, before);
  };
  for (const Access& access : AccessesOf(task, shape_)) {
    Uses& uses = uses_[access.resource];
    wait_for(uses.writer);
    if (access.writes) {
      for (int32_t reader : uses.readers) wait_for(reader);
      uses = Uses{};
      uses.writer = index;
    } else {
      uses.readers[lane] = index;
    }
  }
  for (int other = 0; other < kNumLanes; ++other) {
    if (other != lane && after[other] >= 0) task.after.push_back(after[other]);
  }
  plan_.tasks.push_back(std::move(task));
  return index;
}

bool PlanBuilder::HasRoomFor(const Load& load) const {
  const WeightStream& weights = shape_.weights;
  // What the part's last page overwrites, as an index of this step's stream.
  const int64_t overwritten = first_index_[load.layer] + weights.part_end(load.layer, load.part) -
                              1 - weights.num_ring_slots + (load.ahead ? weights.num_pages() : 0);
  for (int32_t layer = 0; layer < shape_.num_layers; ++layer) {
    if (weights.streams(layer) && first_index_[layer] <= overwritten && !layer_used_[layer]) {
      return false;
    }
  }
  return true;
}

template <typename Due>
void PlanBuilder::LoadWhile(Due due) {
  while (next_load_ < loads_.size() && due(loads_[next_load_]) && HasRoomFor(loads_[next_load_])) {
    const Load& load = loads_[next_load_++];
    Append(Task{TaskKind::kLoadWeights, load.layer, 0, load.part, load.ahead, {}});
  }
}

void PlanBuilder::LoadAhead(int32_t layer, int32_t num_parts_due) {
  const bool last = layer + 1 == shape_.num_layers;
  LoadWhile([&](const Load& load) {
    if (load.ahead) return last && load.part < num_parts_due;
    return load.layer <= layer || (load.layer == layer + 1 && load.part < num_parts_due);
  });
}

int32_t PlanBuilder::NumPartsBeside(int32_t layer) const {
  if (!shape_.weights.streams(layer)) return shape_.weights.num_parts;
  int32_t count = 0;
  for (size_t i = next_load_; i < loads_.size() && HasRoomFor(loads_[i]); ++i) ++count;
  return std::min(count, shape_.weights.num_parts);
}

void PlanBuilder::LoadNow(int32_t layer) {
  const auto is_due = [layer](const Load& load) { return !load.ahead && load.layer <= layer; };
  LoadWhile(is_due);
  CHECK(next_load_ == loads_.size() || !is_due(loads_[next_load_]))
      << "the ring of " << shape_.weights.num_ring_slots << " slots is smaller than layer "
      << layer;
}

}  // namespace moelight
