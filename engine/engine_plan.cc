#include "engine/engine_plan.h"

#include <algorithm>
#include <string>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/ceil_div.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/model/weight_loader.h"

namespace moelight {
namespace {

// Micro-batches on a GPU when the configuration names no number: two for the GPU and the CPU to
// work on at once, two more whose hidden states are on the link or wait (cgopipe.cc).
constexpr int32_t kAutoMicroBatches = 4;
// Rows that a micro-batch has at least, while one does: a tile of the GPU's matrix kernels is not
// filled by less.
constexpr int32_t kMinMicroBatchRows = 32;
// What the driver takes on the GPU beside the arenas: code of our kernels and of cuBLAS's (seen on
// an H200: 85 MiB), and page tables of 8 bytes for every 4 KiB of pinned host memory.
constexpr int64_t kGpuKernelBytes = int64_t{128} << 20;
constexpr int64_t kPinnedBytesPerPageTableByte = 4096 / 8;

// Fixed values for what is left to the policy: a small machine's.
constexpr int32_t kFixedRunningSequences = 256;
constexpr int32_t kFixedStepTokens = 2048;
constexpr int64_t kFixedWeightPageBytes = int64_t{16} << 20;
constexpr int32_t kFixedRingPercent = 150;

// Of all tokens, how many may be computed again because pages ran out. Simulated jobs of answers of
// one length, the worst case, need a quarter to keep the pages full.
constexpr double kGpuRecomputeShare = 0.3;
constexpr double kCpuRecomputeShare = 0.02;

absl::Status CheckRange(absl::string_view key, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": ", value, " is outside [", low, ", ", high, "]"));
}

absl::Status CheckChoice(absl::string_view key, absl::string_view value,
                         std::initializer_list<absl::string_view> choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": \"", value, "\" is not one of ", absl::StrJoin(choices, ", ")));
}

absl::Status CheckOptions(const EngineOptions& options, const ModelConfig& config) {
  RETURN_IF_ERROR(CheckChoice("engine.prefill", options.prefill, {"mixed", "separate"}));
  RETURN_IF_ERROR(CheckChoice("engine.admission", options.admission, {"paged", "reserved"}));
  RETURN_IF_ERROR(
      CheckChoice("engine.expert_coalescing", options.expert_coalescing, {"auto", "on", "off"}));
  RETURN_IF_ERROR(
      CheckRange("engine.max_running_sequences", options.max_running_sequences, 1, 1 << 16));
  RETURN_IF_ERROR(CheckRange("engine.max_step_tokens", options.max_step_tokens,
                             options.max_running_sequences, 1 << 20));
  RETURN_IF_ERROR(CheckRange("engine.kv_page_tokens", options.kv_page_tokens, 1, 1 << 12));
  RETURN_IF_ERROR(
      CheckRange("engine.max_queued_requests", options.max_queued_requests, 1, 1 << 20));
  RETURN_IF_ERROR(CheckRange("engine.tokenizer_threads", options.tokenizer_threads, 1, 256));
  RETURN_IF_ERROR(CheckRange("engine.num_micro_batches", options.num_micro_batches, 0, 64));
  RETURN_IF_ERROR(CheckRange("engine.weight_ring_percent", options.weight_ring_percent, 100, 200));
  RETURN_IF_ERROR(CheckRange("engine.weight_page", options.weight_page_bytes, 256, 1 << 30));
  if ((options.weight_page_bytes & (options.weight_page_bytes - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("engine.weight_page: ", options.weight_page_bytes, " is not a power of two"));
  }
  if (options.expert_coalescing != "on" && options.expert_coalescing != "off") {
    return absl::InvalidArgumentError(absl::StrCat("engine.expert_coalescing: \"",
                                                   options.expert_coalescing,
                                                   "\" is not one of auto, on, off"));
  }
  return CheckRange("engine.max_model_len", options.max_model_len, 0,
                    config.max_position_embeddings);
}

// Rows that go through the experts together: all that half of the decode tokens may be, whole
// sequences not dividing evenly. Prompts may make micro-batches larger than that, which read the
// experts seldom enough as it is; so buffers of one micro-batch mostly do for groups.
int64_t MaxGroupRows(const EngineOptions& options, const CutOptions& cut) {
  if (options.expert_coalescing != "on") return 0;
  return std::max<int64_t>(cut.max_rows, CeilDiv(int64_t{options.max_running_sequences} * 5, 8));
}

// Which micro-batches, and where they attend.
CutOptions MakeCut(const EngineOptions& options, const EnginePlan& plan, bool has_device_memory) {
  CutOptions cut;
  cut.kv_page_tokens = options.kv_page_tokens;
  cut.max_rows = plan.activations.max_rows;
  cut.num_micro_batches = std::max(1, options.num_micro_batches);
  if (!has_device_memory) return cut;
  cut.min_rows = kMinMicroBatchRows;
  if (plan.kv_cache.dtype == plan.activations.kv_dtype) {
    cut.attention = plan.schedule->decode_on_device ? AttentionPlacement::kDevice
                                                    : AttentionPlacement::kPrefillOnDevice;
  }
  if (options.num_micro_batches == 0) cut.num_micro_batches = kAutoMicroBatches;
  // A quarter above the even share, because sequences do not divide evenly.
  const int64_t max_rows = plan.activations.max_rows;
  cut.max_rows = std::min(max_rows, CeilDiv(max_rows * 5, 4 * cut.num_micro_batches));
  return cut;
}

// KV pages that one micro-batch's device attention may work on.
int64_t NumStagingPages(const EnginePlan& plan, int64_t num_kv_pages) {
  if (plan.cut.attention == AttentionPlacement::kHost) return 1;
  const int64_t one_sequence = CeilDiv(plan.max_model_len, plan.cut.kv_page_tokens);
  const int64_t wanted = plan.cut.attention == AttentionPlacement::kDevice
                             ? CeilDiv(num_kv_pages * 5, 4 * plan.cut.num_micro_batches)
                             // Prompts of a few pages each, of which the last is half empty.
                             : CeilDiv(plan.cut.max_rows * 3, 2 * plan.cut.kv_page_tokens);
  return std::max(one_sequence, wanted);
}

// KV pages that the prompts of one step may attend to, in sum: new rows fill as many pages as there
// are rows at most, and long prompts come back for their later pieces.
int64_t MaxPromptPages(const EnginePlan& plan) {
  return plan.activations.max_rows + CeilDiv(plan.max_model_len, plan.cut.kv_page_tokens);
}

SchedulerOptions MakeSchedulerOptions(const EngineOptions& options, const EnginePlan& plan,
                                      bool has_gpu) {
  SchedulerOptions scheduler;
  scheduler.max_running_sequences = options.max_running_sequences;
  scheduler.max_step_tokens = options.max_step_tokens;
  // A piece that leaves a micro-batch room for its share of the decode tokens: with more, there
  // would have to be as many micro-batches as it takes to have next to none in each.
  scheduler.max_chunk_tokens = static_cast<int32_t>(std::max<int64_t>(
      1, plan.cut.max_rows - CeilDiv(options.max_running_sequences, plan.cut.num_micro_batches)));
  scheduler.max_prompt_pages = MaxPromptPages(plan);
  scheduler.mix_prompts = options.prefill == "mixed";
  scheduler.reserve_pages = options.admission == "reserved";
  // Staging pages are one sequence's: decode tokens on the device would load a shared page once
  // each.
  scheduler.share_prefixes = options.prefix_sharing && !plan.schedule->decode_on_device;
  // Beside a GPU that waits for weights, prompts cost next to nothing; where all is computed on the
  // CPU, every token costs the same.
  scheduler.max_recompute_share = has_gpu ? kGpuRecomputeShare : kCpuRecomputeShare;
  scheduler.pace_starts = has_gpu && scheduler.mix_prompts && !scheduler.reserve_pages;
  scheduler.expected_output_tokens = options.workload.num_output_tokens;
  return scheduler;
}

OpLimits MakeOpLimits(const ModelConfig& config, const EnginePlan& plan) {
  OpLimits limits;
  limits.max_tokens = plan.activations.max_micro_batch_rows;
  limits.max_sequences = plan.activations.max_sequences;
  limits.max_step_tokens = plan.activations.max_rows;
  limits.max_step_sequences = plan.activations.max_sequences;
  limits.max_step_pages = plan.cut.attention == AttentionPlacement::kDevice
                              ? plan.kv_cache.num_pages
                              : MaxPromptPages(plan);
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

// No op but attention runs on the host; unless all of it does, it is that of decode tokens.
OpLimits HostAttentionLimits(OpLimits limits, AttentionPlacement attention) {
  if (attention != AttentionPlacement::kHost) limits.max_tokens = limits.max_sequences;
  limits.max_intermediate_size = 0;
  limits.num_experts = 0;
  limits.num_experts_per_tok = 0;
  return limits;
}

// The most KV pages that fit into `left_bytes`, up to what all places at full length could use, and
// at least those of one sequence.
int64_t NumKvPages(const EngineOptions& options, const EnginePlan& plan, int64_t left_bytes) {
  const int64_t pages_per_sequence = CeilDiv(plan.max_model_len, options.kv_page_tokens);
  // Every layer's part of the pool is rounded up.
  const int64_t rounding_bytes = int64_t{plan.kv_cache.num_layers} * Arena::kAlignment;
  const int64_t num_affordable =
      std::max<int64_t>(0, left_bytes - rounding_bytes) / plan.kv_cache.page_bytes();
  return std::clamp(num_affordable, pages_per_sequence,
                    pages_per_sequence * options.max_running_sequences);
}

absl::StatusOr<int64_t> HostLimitBytes(const EngineOptions& options) {
  if (options.host_memory_bytes > 0) return options.host_memory_bytes;
  ASSIGN_OR_RETURN(const int64_t available_bytes, AvailableHostMemoryBytes());
  return available_bytes / 2;
}

int64_t GpuLimitBytes(const EngineOptions& options, const Backend& backend) {
  if (options.gpu_memory_bytes > 0) return options.gpu_memory_bytes;
  return backend.free_device_bytes() / 10 * 9;
}

// Host memory that may be pinned for the GPU: within the limit, the weights, what steps copy from,
// and the KV cache if every place were taken at full length. More is never used.
int64_t MostPinnedBytes(const EngineOptions& options, const ModelConfig& config,
                        const WeightSizes& sizes, int64_t host_limit_bytes,
                        const EnginePlan& plan) {
  KvCacheOptions kv_cache = plan.kv_cache;
  kv_cache.num_pages = NumKvPages(options, plan, host_limit_bytes);
  return std::min(host_limit_bytes, sizes.bytes() + kv_cache.bytes() +
                                        Activations::Sizes(config, plan.activations).host_bytes);
}

// Divides the GPU's memory: what every step needs, then the experts.
absl::Status PlanGpuMemory(const EngineOptions& options, const ModelConfig& config,
                           const Backend& backend, const WeightSizes& sizes, int64_t pinned_bytes,
                           EnginePlan* plan) {
  if (options.gpu_memory_bytes > backend.free_device_bytes()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("engine.gpu_memory is ", options.gpu_memory_bytes, " bytes, and ",
                     backend.free_device_bytes(), " are free on the GPU"));
  }
  MemoryBudget& budget = plan->budget;
  budget.Add(MemoryTier::kGpu, "weights", sizes.common_bytes);
  budget.Add(MemoryTier::kGpu, "activations",
             Activations::Sizes(config, plan->activations).device_bytes);
  budget.Add(MemoryTier::kGpu, "scratch", backend.scratch_bytes(plan->op_limits));
  budget.Add(MemoryTier::kGpu, "driver",
             kGpuKernelBytes + pinned_bytes / kPinnedBytesPerPageTableByte);
  if (sizes.expert_bytes == 0) {
    return budget.CheckFits(MemoryTier::kGpu, GpuLimitBytes(options, backend), "engine.gpu_memory");
  }
  std::vector<int64_t> layer_pages;
  for (int64_t bytes : sizes.layer_expert_bytes) {
    layer_pages.push_back(bytes / options.weight_page_bytes);
  }
  const int64_t limit_bytes = GpuLimitBytes(options, backend);
  const int64_t left_bytes = limit_bytes - budget.Total(MemoryTier::kGpu);
  // Rounded down, also below zero.
  const int64_t num_pages = left_bytes < 0 ? 0 : left_bytes / options.weight_page_bytes;
  absl::StatusOr<ExpertStoreOptions> experts = PlanExpertStore(
      options.weight_page_bytes, layer_pages, num_pages, options.weight_ring_percent);
  if (!experts.ok()) {
    // The budget's own message lists every line and the least that is needed.
    const int64_t largest = *std::max_element(layer_pages.begin(), layer_pages.end());
    budget.Add(MemoryTier::kGpu, "experts", largest * options.weight_page_bytes);
    return budget.CheckFits(MemoryTier::kGpu, limit_bytes, "engine.gpu_memory");
  }
  plan->experts = *std::move(experts);
  budget.Add(MemoryTier::kGpu, "experts", plan->experts.device_bytes());
  return budget.CheckFits(MemoryTier::kGpu, limit_bytes, "engine.gpu_memory");
}

}  // namespace

EngineOptions WithFixedChoices(EngineOptions options) {
  const auto fix = [](auto* choice, auto value) {
    if (*choice == 0) *choice = value;
  };
  fix(&options.max_running_sequences, kFixedRunningSequences);
  fix(&options.max_step_tokens, std::max(kFixedStepTokens, options.max_running_sequences));
  fix(&options.weight_page_bytes, kFixedWeightPageBytes);
  fix(&options.weight_ring_percent, kFixedRingPercent);
  if (options.expert_coalescing == "auto") options.expert_coalescing = "off";
  return options;
}

absl::StatusOr<EnginePlan> MakeEnginePlan(const EngineOptions& given, const ModelConfig& config,
                                          const Backend& backend, const Backend* host_backend,
                                          const WeightSizes* exact_sizes) {
  const EngineOptions options = WithFixedChoices(given);
  RETURN_IF_ERROR(CheckOptions(options, config));
  EnginePlan plan;
  const bool has_gpu = backend.has_device_memory();
  const absl::string_view automatic = has_gpu ? "cgopipe" : "serial";
  ASSIGN_OR_RETURN(plan.schedule,
                   FindSchedule(options.schedule == "auto" ? automatic : options.schedule));
  plan.max_model_len =
      options.max_model_len > 0 ? options.max_model_len : config.max_position_embeddings;
  plan.activations.max_rows = options.max_step_tokens;
  plan.activations.max_sequences = options.max_running_sequences;
  plan.activations.dtype = backend.activation_dtype();
  plan.activations.kv_dtype = backend.kv_dtype();
  plan.kv_cache.dtype = has_gpu ? host_backend->kv_dtype() : backend.kv_dtype();
  if (plan.kv_cache.dtype != backend.kv_dtype() && plan.schedule->decode_on_device) {
    return absl::InvalidArgumentError(absl::StrCat(
        "engine.kv_format: ", KvFormatName(plan.kv_cache.dtype), " cannot be used with schedule ",
        plan.schedule->name, ", whose attention is on the ", backend.name(), " backend, which has ",
        KvFormatName(backend.kv_dtype())));
  }
  plan.activations.kv_page_tokens = options.kv_page_tokens;
  plan.cut = MakeCut(options, plan, has_gpu);
  plan.scheduler = MakeSchedulerOptions(options, plan, has_gpu);
  plan.cut.max_group_rows = MaxGroupRows(options, plan.cut);
  plan.activations.max_micro_batch_rows = std::max(plan.cut.max_rows, plan.cut.max_group_rows);
  plan.weights = {&backend.weight_format(), backend.embedding_dtype(), &backend.expert_format()};
  if (has_gpu) plan.weights.expert_page_bytes = options.weight_page_bytes;
  const WeightSizes sizes = exact_sizes != nullptr
                                ? WithPages(*exact_sizes, plan.weights.expert_page_bytes)
                                : SizeWeights(config, plan.weights);

  plan.kv_cache.num_layers = config.num_hidden_layers;
  plan.kv_cache.heads = config.heads();
  plan.kv_cache.page_tokens = options.kv_page_tokens;
  ASSIGN_OR_RETURN(const int64_t host_limit_bytes, HostLimitBytes(options));
  plan.host_limit_bytes = host_limit_bytes;
  if (has_gpu) {
    plan.gpu_limit_bytes = GpuLimitBytes(options, backend);
    // How much of the experts stays on the host is known once the GPU's memory is divided, and that
    // needs to know the KV cache for staging. All of it on the host is a safe first guess.
    plan.kv_cache.num_pages = NumKvPages(options, plan, host_limit_bytes - sizes.bytes());
    plan.cut.max_staging_pages = NumStagingPages(plan, plan.kv_cache.num_pages);
    plan.activations.num_staging_pages = plan.cut.max_staging_pages;
    plan.kv_cache.num_pages = NumKvPages(options, plan, host_limit_bytes);
    plan.op_limits = MakeOpLimits(config, plan);
    RETURN_IF_ERROR(backend.CheckLimits(plan.op_limits));
    RETURN_IF_ERROR(PlanGpuMemory(options, config, backend, sizes,
                                  MostPinnedBytes(options, config, sizes, host_limit_bytes, plan),
                                  &plan));
    // Everything is read into host memory before the GPU's part moves.
    MemoryBudget loading;
    loading.Add(MemoryTier::kHost, "weights while they are loaded", sizes.bytes());
    RETURN_IF_ERROR(loading.CheckFits(MemoryTier::kHost, host_limit_bytes, "engine.host_memory"));
    plan.budget.Add(
        MemoryTier::kHost, "weights",
        sizes.expert_bytes - plan.experts.num_resident_pages() * options.weight_page_bytes);
    plan.budget.Add(MemoryTier::kHost, "activations",
                    Activations::Sizes(config, plan.activations).host_bytes);
    CHECK(host_backend != nullptr);
    plan.host_op_limits = HostAttentionLimits(plan.op_limits, plan.cut.attention);
    RETURN_IF_ERROR(host_backend->CheckLimits(plan.host_op_limits));
    plan.budget.Add(MemoryTier::kHost, "scratch", host_backend->scratch_bytes(plan.host_op_limits));
  } else {
    plan.op_limits = MakeOpLimits(config, plan);
    RETURN_IF_ERROR(backend.CheckLimits(plan.op_limits));
    const ActivationSizes activations = Activations::Sizes(config, plan.activations);
    plan.budget.Add(MemoryTier::kHost, "weights", sizes.bytes());
    plan.budget.Add(MemoryTier::kHost, "activations",
                    activations.device_bytes + activations.host_bytes);
    plan.budget.Add(MemoryTier::kHost, "scratch", backend.scratch_bytes(plan.op_limits));
  }
  // What is left of the host's memory goes to the KV cache.
  plan.kv_cache.num_pages =
      NumKvPages(options, plan, host_limit_bytes - plan.budget.Total(MemoryTier::kHost));
  plan.budget.Add(MemoryTier::kHost, "kv_cache", plan.kv_cache.bytes());
  RETURN_IF_ERROR(plan.budget.CheckFits(MemoryTier::kHost, host_limit_bytes, "engine.host_memory"));
  return plan;
}

PlanInfo DescribePlan(const EnginePlan& plan, const Backend& backend, bool pinned) {
  PlanInfo info;
  info.backend = backend.description();
  info.schedule = std::string(plan.schedule->name);
  info.max_running_sequences = plan.scheduler.max_running_sequences;
  info.max_step_tokens = plan.scheduler.max_step_tokens;
  info.num_micro_batches = plan.cut.num_micro_batches;
  info.coalesced_experts = plan.cut.max_group_rows > 0;
  info.kv_format = std::string(KvFormatName(plan.kv_cache.dtype));
  info.kv_page_tokens = plan.kv_cache.page_tokens;
  info.num_kv_pages = plan.kv_cache.num_pages;
  info.weight_page_bytes = plan.experts.page_bytes;
  info.num_weight_pages = plan.experts.num_pages();
  info.num_resident_weight_pages = plan.experts.num_resident_pages();
  info.num_ring_slots = plan.experts.num_ring_slots;
  info.host_memory_pinned = pinned;
  for (const BudgetLine& line : plan.budget.lines()) {
    info.memory.push_back({std::string(MemoryTierName(line.tier)), line.tag, line.bytes});
  }
  return info;
}

}  // namespace moelight
