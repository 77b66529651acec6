#include "server/plan_report.h"

#include <algorithm>
#include <map>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

namespace moelight {
namespace {

constexpr double kGiB = 1 << 30;
constexpr double kMillisecondsPerMicrosecond = 1e-3;
constexpr double kBillion = 1e9;
constexpr double kPercent = 100;

double Percent(double part, double whole) { return whole > 0 ? kPercent * part / whole : 0; }

std::string GiB(int64_t bytes) { return absl::StrFormat("%9.2f GiB", bytes / kGiB); }

void AppendPolicy(const PlanInfo& plan, std::string* text) {
  absl::StrAppendFormat(text,
                        "\npolicy\n"
                        "  schedule              %s\n"
                        "  running sequences     %d at most\n"
                        "  micro-batches         %d%s\n"
                        "  tokens of a step      %d at most\n"
                        "  KV cache              %s, %d pages of %d tokens\n",
                        plan.schedule, plan.max_running_sequences, plan.num_micro_batches,
                        plan.coalesced_experts ? ", experts once over each half of them" : "",
                        plan.max_step_tokens, plan.kv_format, plan.num_kv_pages,
                        plan.kv_page_tokens);
  if (plan.num_weight_pages == 0) return;
  absl::StrAppendFormat(
      text,
      "  experts               %d pages of %.0f MiB: %d resident on the GPU (%.1f %%), %d slots "
      "for "
      "the others\n",
      plan.num_weight_pages, plan.weight_page_bytes / kGiB * 1024, plan.num_resident_weight_pages,
      Percent(plan.num_resident_weight_pages, plan.num_weight_pages), plan.num_ring_slots);
}

void AppendTensors(const PlanPrediction& prediction, std::string* text) {
  absl::StrAppend(text, "\nwhat lies where\n");
  for (const PlanPrediction::TensorGroup& group : prediction.tensors) {
    absl::StrAppendFormat(text, "  %-5s %s  %s\n", group.place, GiB(group.bytes), group.name);
  }
}

void AppendMemory(const PlanInfo& plan, std::string* text) {
  absl::StrAppend(text, "\nmemory\n");
  std::map<std::string, int64_t> totals;
  for (const MemoryUse& use : plan.memory) {
    absl::StrAppendFormat(text, "  %-5s %s  %s\n", use.tier, GiB(use.bytes), use.tag);
    totals[use.tier] += use.bytes;
  }
  for (const auto& [tier, bytes] : totals) {
    absl::StrAppendFormat(text, "  %-5s %s  in all\n", tier, GiB(bytes));
  }
}

void AppendStep(const PlanPrediction& prediction, std::string* text) {
  absl::StrAppendFormat(text,
                        "\na decode step of %d sequences on %s\n"
                        "  step     %10.2f ms\n",
                        prediction.num_sequences, prediction.hardware,
                        prediction.step_us * kMillisecondsPerMicrosecond);
  for (const Lane lane : kAllLanes) {
    const double us = prediction.lane_us[static_cast<int>(lane)];
    absl::StrAppendFormat(text, "  %-8s %10.2f ms  %5.1f %% busy\n", LaneName(lane),
                          us * kMillisecondsPerMicrosecond, Percent(us, prediction.step_us));
  }
  absl::StrAppendFormat(
      text,
      "  sampling %10.2f ms\n"
      "  bound by %s, which alone would take %.2f ms: the step is at %.1f %% of its bound\n",
      prediction.host_us * kMillisecondsPerMicrosecond, prediction.bottleneck,
      prediction.bound_us * kMillisecondsPerMicrosecond,
      Percent(prediction.bound_us, prediction.step_us));
}

void AppendThroughput(const PlanPrediction& prediction, std::string* text) {
  absl::StrAppendFormat(
      text,
      "\nthroughput with prompts of %d tokens (at most %d) and answers of %d\n"
      "  %10.1f tok/s generated over a long job, prompts included\n"
      "  %10.1f tok/s if nothing ever waited while decoding (%.1f %% reached)\n",
      prediction.workload.mean_prompt_tokens, prediction.workload.max_prompt_tokens,
      prediction.workload.num_output_tokens, prediction.tokens_per_s, prediction.bound_tokens_per_s,
      Percent(prediction.tokens_per_s, prediction.bound_tokens_per_s));
  if (prediction.joules_per_token > 0) {
    absl::StrAppendFormat(text, "  %10.3f joules a token\n", prediction.joules_per_token);
  }
  absl::StrAppend(text, "\nwhat else would bring\n");
  for (const PlanPrediction::Alternative& other : prediction.alternatives) {
    absl::StrAppendFormat(
        text, "  %10.1f tok/s  %+6.1f %%  %s%s\n", other.tokens_per_s,
        Percent(other.tokens_per_s - prediction.tokens_per_s, prediction.tokens_per_s), other.what,
        other.is_available ? " (a setting)" : "");
  }
}

}  // namespace

std::string PlanTable(const ModelInfo& model, const PlanInfo& plan) {
  std::string text = absl::StrFormat(
      "model    %s (%s), %.1f billion parameters, %.1f active\n"
      "backend  %s\n",
      model.name, model.architecture, model.num_parameters / kBillion,
      model.num_active_parameters / kBillion, plan.backend);
  AppendPolicy(plan, &text);
  if (plan.prediction.has_value()) AppendTensors(*plan.prediction, &text);
  AppendMemory(plan, &text);
  if (!plan.prediction.has_value()) {
    absl::StrAppend(&text,
                    "\nnothing is predicted: no profile of this hardware is known (moelightd "
                    "probe)\n");
    return text;
  }
  AppendStep(*plan.prediction, &text);
  AppendThroughput(*plan.prediction, &text);
  return text;
}

std::string SimulationLine(const SimulatedRun& run) {
  return absl::StrFormat(
      "\nsimulated: %.1f tok/s, %d generated and %d prompt tokens in %.1f s of %d steps, %d "
      "sequences "
      "at most; decode step %.2f ms\n",
      run.tokens_per_s(), run.num_generated_tokens, run.num_prompt_tokens, run.seconds,
      run.num_steps, run.peak_sequences, run.decode_step_us * kMillisecondsPerMicrosecond);
}

}  // namespace moelight
