// BatchShape: what a step's time depends on, of each micro-batch: rows, and how much they attend
// to.
//
// Pure values; threads: none of its own.
#ifndef MOELIGHT_ENGINE_PLANNER_BATCH_SHAPE_H_
#define MOELIGHT_ENGINE_PLANNER_BATCH_SHAPE_H_

#include <cstdint>
#include <vector>

#include "engine/pipeline/step_plan.h"
#include "engine/scheduler/batch.h"

namespace moelight {

struct MicroBatchShape {
  int64_t num_outputs = 0;      // sequences that get a token
  int64_t num_host_rows = 0;    // that attend on the host
  int64_t num_device_rows = 0;  // that attend on the device
  // Pairs of a row and a position that it sees.
  int64_t num_host_pairs = 0;
  int64_t num_device_pairs = 0;
  int64_t num_device_positions = 0;  // of the sequences whose rows attend there
  // KV pages brought to the device's staging and back.
  int64_t num_load_pages = 0;
  int64_t num_offload_pages = 0;

  int64_t num_rows() const { return num_host_rows + num_device_rows; }
};

struct BatchShape {
  std::vector<MicroBatchShape> micro_batches;
  int64_t num_outputs() const;
  int64_t num_rows(int32_t first, int32_t count) const;  // of `count` micro-batches
};

// `batch` must be cut.
BatchShape ShapeOf(const Batch& batch, int32_t sliding_window);

// A step as the planner imagines it: decode tokens of equal context and whole prompts of equal
// length, spread over micro-batches as evenly as whole ones can be.
struct StepLoad {
  int64_t num_decode = 0;
  double mean_context = 0;  // positions that a decode token sees, itself included
  double num_prompts = 0;   // may be a fraction: not every step starts one
  double prompt_tokens = 0;
};
BatchShape EvenShape(const StepLoad& load, const CutOptions& cut, int32_t sliding_window);

// The plan's shape for such a batch, cut so.
PlanShape PlanShapeFor(const BatchShape& batch, const CutOptions& cut, int32_t num_layers,
                       WeightStream weights);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PLANNER_BATCH_SHAPE_H_
