#include "engine/engine_plan.h"

#include <algorithm>
#include <string>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/model/weight_loader.h"

namespace moelight {
namespace {

absl::Status CheckRange(absl::string_view key, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": ", value, " is outside [", low, ", ", high, "]"));
}

absl::Status CheckOptions(const EngineOptions& options, const ModelConfig& config) {
  RETURN_IF_ERROR(
      CheckRange("engine.max_running_sequences", options.max_running_sequences, 1, 1 << 16));
  RETURN_IF_ERROR(CheckRange("engine.max_step_tokens", options.max_step_tokens,
                             options.max_running_sequences, 1 << 20));
  RETURN_IF_ERROR(CheckRange("engine.kv_page_tokens", options.kv_page_tokens, 1, 1 << 12));
  RETURN_IF_ERROR(
      CheckRange("engine.max_queued_requests", options.max_queued_requests, 1, 1 << 20));
  RETURN_IF_ERROR(CheckRange("engine.tokenizer_threads", options.tokenizer_threads, 1, 256));
  return CheckRange("engine.max_model_len", options.max_model_len, 0,
                    config.max_position_embeddings);
}

OpLimits MakeOpLimits(const ModelConfig& config, const EnginePlan& plan) {
  OpLimits limits;
  limits.max_tokens = plan.activations.max_rows;
  limits.max_sequences = plan.activations.max_sequences;
  limits.hidden_size = config.hidden_size;
  limits.max_intermediate_size =
      std::max<int64_t>(config.intermediate_size, config.moe_intermediate_size);
  limits.num_experts = config.num_experts;
  limits.num_experts_per_tok = config.num_experts_per_tok;
  limits.max_model_len = plan.max_model_len;
  limits.max_matmul_rows = std::max<int64_t>(config.vocab_size, config.heads().qkv_size());
  limits.heads = config.heads();
  return limits;
}

}  // namespace

absl::StatusOr<EnginePlan> MakeEnginePlan(const EngineOptions& options, const ModelConfig& config,
                                          const Backend& backend) {
  RETURN_IF_ERROR(CheckOptions(options, config));
  EnginePlan plan;
  ASSIGN_OR_RETURN(plan.schedule,
                   FindSchedule(options.schedule == "auto" ? "serial" : options.schedule));
  plan.max_model_len =
      options.max_model_len > 0 ? options.max_model_len : config.max_position_embeddings;
  plan.scheduler = {options.max_running_sequences, options.max_step_tokens};
  plan.activations.max_rows = Scheduler::MaxStepRows(plan.scheduler, plan.max_model_len);
  plan.activations.max_sequences = options.max_running_sequences;
  plan.activations.dtype = backend.activation_dtype();
  plan.op_limits = MakeOpLimits(config, plan);

  plan.budget.Add(MemoryTier::kHost, "weights",
                  WeightBytes(config, {&backend.weight_format(), backend.embedding_dtype()}));
  plan.budget.Add(MemoryTier::kHost, "activations", Activations::Bytes(config, plan.activations));
  plan.budget.Add(MemoryTier::kHost, "scratch", backend.scratch_bytes(plan.op_limits));

  // What is left goes to the KV cache, up to what all places at full length could use.
  int64_t limit_bytes = options.host_memory_bytes;
  if (limit_bytes == 0) {
    ASSIGN_OR_RETURN(const int64_t available_bytes, AvailableHostMemoryBytes());
    limit_bytes = available_bytes / 2;
  }
  plan.kv_cache.num_layers = config.num_hidden_layers;
  plan.kv_cache.heads = config.heads();
  plan.kv_cache.dtype = backend.kv_dtype();
  plan.kv_cache.page_tokens = options.kv_page_tokens;
  const int64_t pages_per_sequence =
      (plan.max_model_len + options.kv_page_tokens - 1) / options.kv_page_tokens;
  const int64_t left_bytes = limit_bytes - plan.budget.Total(MemoryTier::kHost);
  // Every layer's part of the pool is rounded up to a cache line.
  const int64_t rounding_bytes = int64_t{config.num_hidden_layers} * Arena::kAlignment;
  const int64_t num_affordable =
      std::max<int64_t>(0, left_bytes - rounding_bytes) / plan.kv_cache.page_bytes();
  plan.kv_cache.num_pages = std::clamp(num_affordable, pages_per_sequence,
                                       pages_per_sequence * options.max_running_sequences);
  plan.budget.Add(MemoryTier::kHost, "kv_cache", plan.kv_cache.bytes());
  RETURN_IF_ERROR(plan.budget.CheckFits(MemoryTier::kHost, limit_bytes, "engine.host_memory"));
  return plan;
}

PlanInfo DescribePlan(const EnginePlan& plan, const Backend& backend) {
  PlanInfo info;
  info.backend = backend.description();
  info.schedule = std::string(plan.schedule->name);
  info.max_running_sequences = plan.scheduler.max_running_sequences;
  info.max_step_tokens = plan.scheduler.max_step_tokens;
  info.num_micro_batches = plan.num_micro_batches;
  info.kv_page_tokens = plan.kv_cache.page_tokens;
  info.num_kv_pages = plan.kv_cache.num_pages;
  for (const BudgetLine& line : plan.budget.lines()) {
    info.memory.push_back({std::string(MemoryTierName(line.tier)), line.tag, line.bytes});
  }
  return info;
}

}  // namespace moelight
