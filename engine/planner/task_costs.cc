#include "engine/planner/task_costs.h"

namespace moelight {

TaskCosts::TaskCosts(const ModelConfig& config, const StorageFormats& formats, const OpCosts& costs)
    : config_(config),
      costs_(costs),
      heads_(config.heads()),
      kv_dtype_(formats.kv_cache.dtype),
      kv_page_bytes_(formats.kv_cache.page_bytes_per_layer()),
      kv_position_bytes_(kv_page_bytes_ / formats.kv_cache.page_tokens),
      act_bytes_(DTypeBytes(formats.activation_dtype)) {
  const WeightFormat& matrix = *formats.weights.matrix_format;
  const WeightFormat& expert =
      formats.weights.expert_format != nullptr ? *formats.weights.expert_format : matrix;
  const int64_t hidden = config.hidden_size;
  qkv_bytes_ = matrix.bytes(heads_.qkv_size(), hidden);
  o_bytes_ = matrix.bytes(hidden, heads_.q_size());
  lm_head_bytes_ = matrix.bytes(config.vocab_size, hidden);
  dense_gate_up_bytes_ = matrix.bytes(2 * config.intermediate_size, hidden);
  dense_down_bytes_ = matrix.bytes(hidden, config.intermediate_size);
  if (config.num_experts > 0) {
    expert_bytes_ = expert.bytes(2 * config.moe_intermediate_size, hidden) +
                    expert.bytes(hidden, config.moe_intermediate_size);
  }
}

ExpertShape TaskCosts::experts(int64_t num_tokens) const {
  return {num_tokens,          config_.num_experts,           config_.num_experts_per_tok,
          config_.hidden_size, config_.moe_intermediate_size, expert_bytes_};
}

OpCost TaskCosts::Norm(int64_t rows) const {
  return costs_.Rows(2 * rows * config_.hidden_size * act_bytes_);
}

OpCost TaskCosts::PreAttn(int64_t rows) const {
  OpCost cost = Norm(rows);
  cost += costs_.MatMul(rows, heads_.qkv_size(), config_.hidden_size, qkv_bytes_, act_bytes_);
  cost += costs_.Rows(2 * rows * heads_.qkv_size() * act_bytes_);
  return cost;
}

OpCost TaskCosts::PostAttn(int64_t rows) const {
  return costs_.MatMul(rows, config_.hidden_size, heads_.q_size(), o_bytes_, act_bytes_);
}

OpCost TaskCosts::Experts(int32_t layer, int64_t rows) const {
  OpCost cost = Norm(rows);
  if (!config_.layer_is_moe(layer)) {
    cost += costs_.MatMul(rows, 2 * config_.intermediate_size, config_.hidden_size,
                          dense_gate_up_bytes_, act_bytes_);
    cost += costs_.MatMul(rows, config_.hidden_size, config_.intermediate_size, dense_down_bytes_,
                          act_bytes_);
    return cost;
  }
  cost += costs_.Router(rows, config_.hidden_size, config_.num_experts);
  cost += costs_.Experts(experts(rows));
  if (layer + 1 == config_.num_hidden_layers) {
    cost += costs_.DeviceCopy((config_.num_experts + 1) * DTypeBytes(DType::kI32));
  }
  return cost;
}

OpCost TaskCosts::Logits(int64_t num_outputs) const {
  if (num_outputs == 0) return {};
  OpCost cost = Norm(num_outputs);  // gathering moves as much
  cost += Norm(num_outputs);
  cost += costs_.MatMul(num_outputs, config_.vocab_size, config_.hidden_size, lm_head_bytes_,
                        act_bytes_);
  return cost;
}

OpCost TaskCosts::Of(const Task& task, const BatchShape& batch, const WeightStream& weights,
                     int64_t page_bytes) const {
  const MicroBatchShape& part = batch.micro_batches[task.micro_batch];
  switch (task.kind) {
    case TaskKind::kEmbed:
      return Norm(part.num_rows());
    case TaskKind::kPreAttn:
      return PreAttn(part.num_rows());
    case TaskKind::kOffloadQkv:
      return costs_.ToHost(part.num_host_rows * heads_.qkv_size() * act_bytes_);
    case TaskKind::kAttn:
      return costs_.HostAttention(heads_, kv_dtype_, part.num_host_rows, part.num_host_pairs);
    case TaskKind::kLoadHidden:
      return costs_.ToDevice(part.num_host_rows * heads_.q_size() * act_bytes_);
    case TaskKind::kLoadKv:
      return costs_.PagesToDevice(part.num_load_pages * kv_page_bytes_);
    case TaskKind::kDeviceAttn:
      return costs_.DeviceAttention(heads_, part.num_device_pairs,
                                    part.num_device_positions * kv_position_bytes_);
    case TaskKind::kOffloadKv:
      return costs_.PagesToHost(part.num_offload_pages * kv_page_bytes_);
    case TaskKind::kPostAttn:
      return PostAttn(part.num_rows());
    case TaskKind::kExperts:
      return Experts(task.layer, batch.num_rows(task.micro_batch, task.num_micro_batches));
    case TaskKind::kLoadWeights:
      return costs_.ToDevice(
          (weights.part_end(task.layer, task.part) - weights.part_begin(task.layer, task.part)) *
          page_bytes);
    case TaskKind::kLogits:
      return Logits(part.num_outputs);
    case TaskKind::kOffloadLogits:
      // Without device memory they are where the sampler reads them.
      if (!costs_.profile().has_gpu()) return {};
      return costs_.ToHost(part.num_outputs * config_.vocab_size * DTypeBytes(DType::kF32));
  }
  return {};
}

}  // namespace moelight
