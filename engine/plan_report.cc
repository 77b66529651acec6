#include "engine/plan_report.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/backend/simulated/simulated_backend.h"
#include "engine/cpu_options.h"
#include "engine/planner/roofline.h"

namespace moelight {
namespace {

using Alternative = PlanPrediction::Alternative;

constexpr double kUsPerSecond = 1e6;
// Shares that are tried of the experts' work on the CPU, and of keys and values on the GPU.
constexpr int kShareSteps = 50;

// A machine and settings with more of something.
struct WhatIf {
  const char* what;
  bool needs_gpu;
  void (*change)(EngineOptions& options, HardwareProfile& profile);
};

void ScaleHostMemoryRates(HardwareProfile& profile, double factor) {
  HostProfile& host = profile.host;
  host.read_bytes_per_s *= factor;
  host.shared_bytes_per_s *= factor;
  host.sample_bytes_per_s *= factor;
  host.read_bytes_per_s_by_threads.Scale(factor);
  for (HostAttentionRate& rate : host.attention) rate.bytes_per_s.Scale(factor);
}

void ScaleExperts(std::vector<ExpertRateCurve>& experts, double factor) {
  for (ExpertRateCurve& curve : experts) curve.flops_per_s.Scale(factor);
}

constexpr WhatIf kWhatIfs[] = {
    {"twice the link", true,
     [](EngineOptions&, HardwareProfile& profile) {
       profile.link.h2d_bytes_per_s.Scale(2);
       profile.link.d2h_bytes_per_s.Scale(2);
       profile.link.both_bytes_per_s *= 2;
     }},
    {"twice the host's memory bandwidth", false,
     [](EngineOptions&, HardwareProfile& profile) { ScaleHostMemoryRates(profile, 2); }},
    {"twice the host's memory", false,
     [](EngineOptions& options, HardwareProfile&) { options.host_memory_bytes *= 2; }},
    {"twice the GPU's memory", true,
     [](EngineOptions& options, HardwareProfile& profile) {
       options.gpu_memory_bytes *= 2;
       profile.gpu.memory_bytes *= 2;
     }},
    {"twice the GPU's operations per second", true,
     [](EngineOptions&, HardwareProfile& profile) {
       profile.gpu.matmul_flops_per_s.Scale(2);
       profile.gpu.attention_flops_per_s *= 2;
       ScaleExperts(profile.gpu.experts, 2);
     }},
    {"twice the CPU's operations per second", false,
     [](EngineOptions&, HardwareProfile& profile) {
       profile.host.peak_flops_per_s *= 2;
       ScaleExperts(profile.host.experts, 2);
     }},
};

double BusyUs(const StepPrediction& step, Lane lane) {
  return step.busy_us[static_cast<int>(lane)];
}

// What the best policy would give on `profile`; 0 if none fits.
double Search(EngineOptions options, const HardwareProfile& profile, const ModelConfig& config) {
  options.hardware = std::make_shared<HardwareProfile>(profile);
  const absl::StatusOr<DType> kv_dtype = SimulatedKvFormat(options);
  if (!kv_dtype.ok()) return 0;
  const SimulatedMachine machine = CreateSimulatedMachine(profile, *kv_dtype);
  const absl::StatusOr<PolicyChoice> choice =
      ChoosePolicy(options, {config, *machine.device, machine.host.get()});
  return choice.ok() ? choice->evaluation.tokens_per_s : 0;
}

// The share of `what` for which `bound_us` gives the shortest step, by the sums of each resource
// alone: no schedule of ours runs it. Nothing if no share would bring anything.
template <typename BoundUs>
std::optional<Alternative> BestShare(const char* what, const PlanEvaluation& evaluation,
                                     const BoundUs& bound_us) {
  double best_us = evaluation.decode.bound_us();
  double best_share = 0;
  for (int i = 1; i <= kShareSteps; ++i) {
    const double share = static_cast<double>(i) / kShareSteps;
    const double us = bound_us(share);
    if (us >= best_us) continue;
    best_us = us;
    best_share = share;
  }
  if (best_share == 0) return std::nullopt;
  return Alternative{absl::StrFormat("%.0f %% of %s (bound)", 100 * best_share, what),
                     static_cast<double>(evaluation.num_sequences) / best_us * kUsPerSecond, false};
}

// A share of each layer's experts computed by the CPU for all tokens, and their weights stay there
// (KTransformers does so).
std::optional<Alternative> ExpertsOnCpu(const PolicyChoice& choice, const ModelConfig& config,
                                        const HardwareProfile& profile) {
  const OpCosts costs(profile);
  const TaskCosts tasks(config, FormatsOf(choice.plan), costs);
  const StepPrediction& step = choice.evaluation.decode;
  const double expert_us = config.num_moe_layers() *
                           costs.HostExperts(tasks.experts(choice.evaluation.num_sequences)).us;
  return BestShare("the experts' work on the CPU", choice.evaluation, [&](double share) {
    return std::max({BusyUs(step, Lane::kHostToDevice) * (1 - share),
                     BusyUs(step, Lane::kCpu) + share * expert_us,
                     BusyUs(step, Lane::kGpu) * (1 - share)});
  });
}

// A share of keys and values in the GPU's memory, in the place of resident experts, and attention
// on them there (FlexGen's cache percentage; the paper's r_c). The host's memory that becomes free
// is not counted.
std::optional<Alternative> KvOnGpu(const PolicyChoice& choice, const HardwareProfile& profile) {
  const StepPrediction& step = choice.evaluation.decode;
  const ExpertStoreOptions& experts = choice.plan.experts;
  const double resident_bytes =
      static_cast<double>(experts.num_resident_pages() * experts.page_bytes);
  const double link_us_per_byte = BusyUs(step, Lane::kHostToDevice) / std::max(1.0, step.h2d_bytes);
  const double gpu_us_per_byte = kUsPerSecond / AsOneDevice(profile).gpu.memory_bytes_per_s;
  return BestShare("keys and values on the GPU", choice.evaluation, [&](double share) {
    // What a step's attention reads is what lies there.
    const double bytes = share * step.cpu_bytes;
    if (bytes > resident_bytes) return std::numeric_limits<double>::infinity();
    return std::max({BusyUs(step, Lane::kHostToDevice) + bytes * link_us_per_byte,
                     BusyUs(step, Lane::kCpu) * (1 - share),
                     BusyUs(step, Lane::kGpu) + bytes * gpu_us_per_byte});
  });
}

std::vector<Alternative> MakeAlternatives(const EngineOptions& options, const ModelConfig& config,
                                          const PolicyChoice& choice) {
  // What was taken from this machine is written down, so that twice of it can be asked for.
  EngineOptions base = options;
  base.host_memory_bytes = choice.plan.host_limit_bytes;
  base.gpu_memory_bytes = choice.plan.gpu_limit_bytes;
  const HardwareProfile& profile = *options.hardware;
  std::vector<Alternative> alternatives;
  for (const WhatIf& what_if : kWhatIfs) {
    if (what_if.needs_gpu && !profile.has_gpu()) continue;
    EngineOptions changed_options = base;
    HardwareProfile changed_profile = profile;
    what_if.change(changed_options, changed_profile);
    alternatives.push_back({what_if.what, Search(changed_options, changed_profile, config), false});
  }
  if (choice.plan.kv_cache.dtype != DType::kI8 && !choice.plan.schedule->decode_on_device) {
    EngineOptions int8 = base;
    int8.kv_format = "int8";
    alternatives.push_back({"engine.kv_format: int8", Search(int8, profile, config), true});
  }
  if (profile.has_gpu() && config.num_moe_layers() > 0) {
    std::vector<std::optional<Alternative>> bounds = {ExpertsOnCpu(choice, config, profile)};
    if (!choice.plan.schedule->decode_on_device) bounds.push_back(KvOnGpu(choice, profile));
    for (const std::optional<Alternative>& bound : bounds) {
      if (bound.has_value()) alternatives.push_back(*bound);
    }
  }
  return alternatives;
}

std::vector<PlanPrediction::TensorGroup> TensorsOf(const EnginePlan& plan) {
  std::vector<PlanPrediction::TensorGroup> groups;
  const auto add = [&groups](std::string name, std::string place, int64_t bytes) {
    if (bytes > 0) groups.push_back({std::move(name), std::move(place), bytes});
  };
  const ExpertStoreOptions& experts = plan.experts;
  const bool is_paged = !experts.layer_pages.empty();
  for (const BudgetLine& line : plan.budget.lines()) {
    const std::string place(MemoryTierName(line.tier));
    const bool is_gpu = line.tier == MemoryTier::kGpu;
    if (is_gpu && line.tag == "weights") {
      add("attention, routers, norms, embedding, LM head", place, line.bytes);
    } else if (is_gpu && line.tag == "experts") {
      add("experts, resident", place, experts.num_resident_pages() * experts.page_bytes);
      add("experts, ring that the streamed ones go through", place,
          experts.num_ring_slots * experts.page_bytes);
    } else if (line.tag == "weights") {
      add(is_paged ? "experts, streamed to the GPU in every step" : "all weights", place,
          line.bytes);
    } else if (line.tag == "kv_cache") {
      add("keys and values", place, line.bytes);
    } else {
      add(line.tag, place, line.bytes);
    }
  }
  return groups;
}

std::string BottleneckOf(const StepPrediction& step) {
  const auto longest = std::max_element(step.busy_us.begin(), step.busy_us.end());
  if (step.host_memory_us > *longest) return "host memory";
  return std::string(LaneName(kAllLanes[longest - step.busy_us.begin()]));
}

}  // namespace

PlanPrediction MakePlanPrediction(const EngineOptions& options, const ModelConfig& config,
                                  const PolicyChoice& choice) {
  const PlanEvaluation& evaluation = choice.evaluation;
  PlanPrediction prediction;
  prediction.hardware = options.hardware->name;
  prediction.workload = options.workload;
  prediction.num_sequences = static_cast<int32_t>(evaluation.num_sequences);
  prediction.step_us = evaluation.decode.step_us;
  prediction.lane_us = evaluation.decode.busy_us;
  prediction.host_us = evaluation.decode.host_us;
  prediction.bottleneck = BottleneckOf(evaluation.decode);
  prediction.bound_us = evaluation.decode.bound_us();
  prediction.tokens_per_s = evaluation.tokens_per_s;
  prediction.bound_tokens_per_s = evaluation.bound_tokens_per_s;
  prediction.joules_per_token = evaluation.joules_per_token;
  prediction.tensors = TensorsOf(choice.plan);
  prediction.roofline = MakeRooflineChart(*options.hardware, evaluation.decode,
                                          static_cast<double>(evaluation.num_micro_batches));
  prediction.alternatives = MakeAlternatives(options, config, choice);
  return prediction;
}

}  // namespace moelight
