// TaskCosts: bytes, operations and time of every task of a StepPlan, from a model's config and the
// shape of a batch.
//
// The table of ops behind each task is ForwardPass's; a test runs that on the simulated backend and
// holds both equal.
//
// Pure; thread-safe. Borrows the config and the costs.
#ifndef MOELIGHT_ENGINE_PLANNER_TASK_COSTS_H_
#define MOELIGHT_ENGINE_PLANNER_TASK_COSTS_H_

#include <cstdint>
#include <vector>

#include "engine/backend/simulated/op_costs.h"
#include "engine/memory/expert_store.h"
#include "engine/memory/kv_cache.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_plan.h"
#include "engine/pipeline/step_plan.h"
#include "engine/planner/batch_shape.h"

namespace moelight {

// How the model is stored.
struct StorageFormats {
  WeightLayout weights;
  DType activation_dtype = DType::kF32;
  KvCacheOptions kv_cache;  // num_pages is not looked at
  int64_t weight_page_bytes = 0;
};

class TaskCosts {
 public:
  TaskCosts(const ModelConfig& config, const StorageFormats& formats, const OpCosts& costs);

  // `weights`: the stream of the plan that the task is of; its pages have `page_bytes`.
  OpCost Of(const Task& task, const BatchShape& batch, const WeightStream& weights,
            int64_t page_bytes) const;

  // Bytes of one expert as stored; 0 without experts.
  int64_t expert_bytes() const { return expert_bytes_; }
  ExpertShape experts(int64_t num_tokens) const;
  const OpCosts& costs() const { return costs_; }
  const ModelConfig& config() const { return config_; }

 private:
  OpCost PreAttn(int64_t rows) const;
  OpCost PostAttn(int64_t rows) const;
  OpCost Experts(int32_t layer, int64_t rows) const;
  OpCost Logits(int64_t num_outputs) const;
  OpCost Norm(int64_t rows) const;

  const ModelConfig& config_;
  const OpCosts& costs_;
  const HeadGeometry heads_;
  const DType kv_dtype_;
  const int64_t kv_page_bytes_;      // of one layer
  const int64_t kv_position_bytes_;  // of one layer
  const int64_t act_bytes_;          // of one element
  int64_t qkv_bytes_ = 0;
  int64_t o_bytes_ = 0;
  int64_t lm_head_bytes_ = 0;
  int64_t dense_gate_up_bytes_ = 0;
  int64_t dense_down_bytes_ = 0;
  int64_t expert_bytes_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PLANNER_TASK_COSTS_H_
