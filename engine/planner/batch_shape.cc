#include "engine/planner/batch_shape.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/backend/simulated/attended_pairs.h"
#include "engine/base/ceil_div.h"
#include "engine/pipeline/expert_groups.h"

namespace moelight {
namespace {

// Share j of `total` among n, so that the shares add up.
int64_t ShareOf(int64_t total, int64_t j, int64_t n) { return total * (j + 1) / n - total * j / n; }

// The decode tokens of a micro-batch.
void AddDecode(int64_t num_decode, int64_t context, const CutOptions& cut, int32_t window,
               MicroBatchShape* shape) {
  const int64_t pairs = num_decode * AttendedPairs(1, context - 1, window);
  shape->num_outputs += num_decode;
  if (cut.attention != AttentionPlacement::kDevice) {
    shape->num_host_rows += num_decode;
    shape->num_host_pairs += pairs;
    return;
  }
  shape->num_device_rows += num_decode;
  shape->num_device_pairs += pairs;
  shape->num_device_positions += num_decode * context;
  shape->num_load_pages += num_decode * CeilDiv(context - 1, cut.kv_page_tokens);
  shape->num_offload_pages += num_decode;
}

// The prompts of a micro-batch.
void AddPrompts(double num_prompts, int64_t prompt_tokens, const CutOptions& cut, int32_t window,
                MicroBatchShape* shape) {
  if (num_prompts <= 0 || prompt_tokens <= 0) return;
  const auto times = [num_prompts](int64_t value) {
    return static_cast<int64_t>(std::llround(num_prompts * static_cast<double>(value)));
  };
  const int64_t rows = times(prompt_tokens);
  const int64_t pairs = times(AttendedPairs(prompt_tokens, 0, window));
  shape->num_outputs += static_cast<int64_t>(std::ceil(num_prompts));
  if (cut.attention == AttentionPlacement::kHost) {
    shape->num_host_rows += rows;
    shape->num_host_pairs += pairs;
    return;
  }
  shape->num_device_rows += rows;
  shape->num_device_pairs += pairs;
  shape->num_device_positions += rows;
  shape->num_offload_pages += times(CeilDiv(prompt_tokens, cut.kv_page_tokens));
}

}  // namespace

int64_t BatchShape::num_outputs() const {
  int64_t count = 0;
  for (const MicroBatchShape& part : micro_batches) count += part.num_outputs;
  return count;
}

int64_t BatchShape::num_rows(int32_t first, int32_t count) const {
  int64_t rows = 0;
  for (int32_t j = first; j < first + count; ++j) rows += micro_batches[j].num_rows();
  return rows;
}

BatchShape ShapeOf(const Batch& batch, int32_t sliding_window) {
  BatchShape shape;
  for (const MicroBatch& part : batch.micro_batches()) {
    MicroBatchShape& out = shape.micro_batches.emplace_back();
    out.num_outputs = part.num_outputs();
    for (const AttentionSequence& sequence : batch.host_attention(part)) {
      out.num_host_rows += sequence.num_tokens;
      out.num_host_pairs +=
          AttendedPairs(sequence.num_tokens, sequence.num_cached_tokens, sliding_window);
    }
    for (const AttentionSequence& sequence : batch.device_attention(part)) {
      out.num_device_rows += sequence.num_tokens;
      out.num_device_positions += sequence.num_tokens + sequence.num_cached_tokens;
      out.num_device_pairs +=
          AttendedPairs(sequence.num_tokens, sequence.num_cached_tokens, sliding_window);
    }
    out.num_load_pages = static_cast<int64_t>(batch.kv_loads(part).size());
    out.num_offload_pages = static_cast<int64_t>(batch.kv_offloads(part).size());
  }
  return shape;
}

BatchShape EvenShape(const StepLoad& load, const CutOptions& cut, int32_t sliding_window) {
  const int64_t context = std::max<int64_t>(1, std::llround(load.mean_context));
  const int64_t prompt_tokens = std::llround(load.prompt_tokens);
  const int64_t num_rows =
      load.num_decode + std::llround(load.num_prompts * static_cast<double>(prompt_tokens));
  const int64_t num_sequences = load.num_decode + static_cast<int64_t>(std::ceil(load.num_prompts));
  int64_t n = std::min<int64_t>(cut.num_micro_batches, num_rows / cut.min_rows);
  if (cut.max_rows > 0) n = std::max(n, CeilDiv(num_rows, cut.max_rows));
  n = std::clamp<int64_t>(n, 1, std::max<int64_t>(1, num_sequences));
  BatchShape shape;
  // A prompt is in one micro-batch: those that do not divide evenly make some of them longer.
  const double prompts_each = std::floor(load.num_prompts / static_cast<double>(n));
  const double prompts_over = load.num_prompts - prompts_each * static_cast<double>(n);
  for (int64_t j = 0; j < n; ++j) {
    MicroBatchShape& part = shape.micro_batches.emplace_back();
    AddDecode(ShareOf(load.num_decode, j, n), context, cut, sliding_window, &part);
    AddPrompts(prompts_each + std::clamp(prompts_over - static_cast<double>(j), 0.0, 1.0),
               prompt_tokens, cut, sliding_window, &part);
  }
  return shape;
}

PlanShape PlanShapeFor(const BatchShape& batch, const CutOptions& cut, int32_t num_layers,
                       WeightStream weights) {
  PlanShape shape;
  shape.num_layers = num_layers;
  shape.num_micro_batches = static_cast<int32_t>(batch.micro_batches.size());
  shape.micro_batches_per_group =
      MicroBatchesPerGroup(shape.num_micro_batches, cut.max_group_rows,
                           [&batch](int32_t j) { return batch.micro_batches[j].num_rows(); });
  shape.host_attention = false;
  for (const MicroBatchShape& part : batch.micro_batches) {
    shape.host_attention |= part.num_host_rows > 0;
    shape.device_attention |= part.num_device_rows > 0;
    shape.load_kv |= part.num_load_pages > 0;
  }
  shape.weights = std::move(weights);
  return shape;
}

}  // namespace moelight
