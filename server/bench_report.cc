#include "server/bench_report.h"

#include <algorithm>
#include <map>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

namespace moelight {
namespace {

using nlohmann::ordered_json;

constexpr double kSecondsPerMicrosecond = 1e-6;
constexpr double kMillisecondsPerMicrosecond = 1e-3;
constexpr double kPercent = 100;
constexpr double kGiga = 1e9;
constexpr double kGiB = 1 << 30;
// Copies of this size run at nearly the full rate of any link, and weight pages have it by default.
constexpr int64_t kRoofCopyBytes = 16 << 20;

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

double TransferUs(const BenchSummary& summary) {
  return summary.busy_us(Lane::kHostToDevice) + summary.busy_us(Lane::kDeviceToHost);
}
double ComputeUs(const BenchSummary& summary) {
  return summary.busy_us(Lane::kGpu) + summary.busy_us(Lane::kCpu);
}

// Time per step of what would be the only limit if everything else were free.
struct Bounds {
  double link_us = 0;  // the busier direction
  double cpu_us = 0;
  double gpu_us = 0;
  double longest_us() const { return std::max({link_us, cpu_us, gpu_us}); }
};

Bounds BoundsOf(const BenchSummary& summary) {
  const double num_steps = std::max<int64_t>(1, summary.num_steps);
  return {std::max(summary.busy_us(Lane::kHostToDevice), summary.busy_us(Lane::kDeviceToHost)) /
              num_steps,
          summary.busy_us(Lane::kCpu) / num_steps, summary.busy_us(Lane::kGpu) / num_steps};
}

double GeneratedPerSecond(const BenchSummary& summary) {
  return Ratio(summary.num_generated_tokens, summary.wall_seconds);
}

// Tokens per second if the bytes of the window crossed the link at its roof and nothing else took
// time; 0: nothing crossed.
double LinkRoofTokensPerSecond(const BenchSummary& summary, const LinkRates::Row& roof) {
  return Ratio(summary.num_generated_tokens,
               static_cast<double>(summary.h2d_bytes) / roof.h2d_bytes_per_s);
}

ordered_json LanesToJson(const BenchSummary& summary) {
  ordered_json lanes;
  for (const Lane lane : kAllLanes) {
    ordered_json stall_us;
    for (const Lane cause : kAllLanes) {
      const double us = summary.lane_stall_us[static_cast<int>(lane)][static_cast<int>(cause)];
      stall_us[cause == lane ? "launch" : std::string(LaneName(cause))] =
          Ratio(us, summary.num_steps);
    }
    lanes[std::string(LaneName(lane))] = {
        {"busy_share", Ratio(summary.busy_us(lane) * kSecondsPerMicrosecond, summary.step_seconds)},
        {"busy_us_per_step", Ratio(summary.busy_us(lane), summary.num_steps)},
        {"stall_us_per_step", stall_us}};
  }
  return lanes;
}

ordered_json DirectionToJson(const BenchSummary& summary, Lane lane, int64_t bytes,
                             double probed_bytes_per_s) {
  const double busy_rate =
      Ratio(static_cast<double>(bytes), summary.busy_us(lane) * kSecondsPerMicrosecond);
  ordered_json json = {
      {"bytes", bytes},
      {"bytes_per_s", Ratio(static_cast<double>(bytes), summary.step_seconds)},
      {"bytes_per_s_while_busy", busy_rate},
  };
  if (probed_bytes_per_s > 0) json["ratio_to_probed"] = busy_rate / probed_bytes_per_s;
  return json;
}

ordered_json SummaryToJson(const BenchSummary& summary, const LinkRates::Row* roof) {
  if (summary.num_steps == 0) return nullptr;
  const Bounds bounds = BoundsOf(summary);
  ordered_json json = {
      {"steps", summary.num_steps},
      {"seconds", summary.wall_seconds},
      {"step_seconds", summary.step_seconds},
      {"sequences", Ratio(summary.num_sequences, summary.num_steps)},
      {"generated_tokens", summary.num_generated_tokens},
      {"prompt_tokens", summary.num_prompt_tokens},
      {"preempted_sequences", summary.num_preempted_sequences},
      {"recomputed_tokens", summary.num_recomputed_tokens},
      {"shared_prompt_tokens", summary.num_shared_prompt_tokens},
      {"kv_page_share", summary.kv_page_share_mean},
      {"generated_tokens_per_s", GeneratedPerSecond(summary)},
      {"prompt_tokens_per_s", Ratio(summary.num_prompt_tokens, summary.wall_seconds)},
      {"step_us",
       {{"mean", summary.step_us_mean},
        {"p50", summary.step_us_p50},
        {"p95", summary.step_us_p95}}},
      {"lanes", LanesToJson(summary)},
      {"h2d", DirectionToJson(summary, Lane::kHostToDevice, summary.h2d_bytes,
                              roof == nullptr ? 0 : roof->h2d_bytes_per_s)},
      {"d2h", DirectionToJson(summary, Lane::kDeviceToHost, summary.d2h_bytes,
                              roof == nullptr ? 0 : roof->d2h_bytes_per_s)},
      {"io_overlap_ratio", Ratio(summary.transfer_overlapped_us, TransferUs(summary))},
      {"compute_overlap_ratio", Ratio(summary.compute_overlapped_us, ComputeUs(summary))},
      {"bounds_us_per_step",
       {{"link", bounds.link_us}, {"cpu", bounds.cpu_us}, {"gpu", bounds.gpu_us}}},
      {"step_to_longest_bound_ratio", Ratio(summary.step_us_mean, bounds.longest_us())},
  };
  if (summary.predicted_seconds > 0) {
    ordered_json lanes;
    for (const Lane lane : kAllLanes) {
      lanes[std::string(LaneName(lane))] =
          summary.predicted_lane_us[static_cast<int>(lane)] / summary.num_steps;
    }
    json["prediction"] = {{"measured_us_per_step",
                           summary.engine_seconds / kSecondsPerMicrosecond / summary.num_steps},
                          {"predicted_us_per_step",
                           summary.predicted_seconds / kSecondsPerMicrosecond / summary.num_steps},
                          {"error_ratio", summary.predicted_seconds / summary.engine_seconds - 1},
                          {"predicted_busy_us_per_step", lanes}};
  }
  if (roof != nullptr && summary.h2d_bytes > 0) {
    const double roof_tokens_per_s = LinkRoofTokensPerSecond(summary, *roof);
    json["link_roof"] = {{"generated_tokens_per_s", roof_tokens_per_s},
                         {"reached_ratio", Ratio(GeneratedPerSecond(summary), roof_tokens_per_s)}};
  }
  return json;
}

ordered_json PlanToJson(const PlanInfo& plan) {
  return {{"backend", plan.backend},
          {"schedule", plan.schedule},
          {"kv_format", plan.kv_format},
          {"max_running_sequences", plan.max_running_sequences},
          {"max_step_tokens", plan.max_step_tokens},
          {"num_micro_batches", plan.num_micro_batches},
          {"kv_page_tokens", plan.kv_page_tokens},
          {"num_kv_pages", plan.num_kv_pages},
          {"weight_page_bytes", plan.weight_page_bytes},
          {"num_weight_pages", plan.num_weight_pages},
          {"num_resident_weight_pages", plan.num_resident_weight_pages},
          {"num_ring_slots", plan.num_ring_slots},
          {"host_memory_pinned", plan.host_memory_pinned},
          {"probed_h2d_bytes_per_s", plan.probed_h2d_bytes_per_s}};
}

// {tier: {tag: bytes}} with the sum of each tier as "total".
ordered_json MemoryToJson(const PlanInfo& plan) {
  ordered_json memory = ordered_json::object();
  std::map<std::string, int64_t> totals;
  for (const MemoryUse& use : plan.memory) {
    totals[use.tier] += use.bytes;
    ordered_json& bytes = memory[use.tier][use.tag];
    bytes = use.bytes + (bytes.is_null() ? 0 : bytes.get<int64_t>());
  }
  for (const auto& [tier, bytes] : totals) memory[tier]["total"] = bytes;
  return memory;
}

ordered_json ExpertsToJson(const std::vector<double>& shares) {
  if (shares.empty()) return nullptr;
  const auto [min, max] = std::minmax_element(shares.begin(), shares.end());
  const double num_experts = static_cast<double>(shares.size());
  return {{"shares", shares},
          {"min_ratio_to_even", *min * num_experts},
          {"max_ratio_to_even", *max * num_experts}};
}

std::string WindowLine(const char* name, const BenchSummary& summary) {
  if (summary.num_steps == 0) return absl::StrFormat("  %-12s no such steps\n", name);
  return absl::StrFormat(
      "  %-12s %.1f generated tok/s, %.1f prompt tok/s over %d steps of %.2f ms (p50 %.2f, p95 "
      "%.2f)\n",
      name, GeneratedPerSecond(summary), Ratio(summary.num_prompt_tokens, summary.wall_seconds),
      summary.num_steps, summary.step_us_mean * kMillisecondsPerMicrosecond,
      summary.step_us_p50 * kMillisecondsPerMicrosecond,
      summary.step_us_p95 * kMillisecondsPerMicrosecond);
}

// Of memory, the batch fills as much as its sequences hold pages: the share of the most that would
// ever fit.
std::string BatchLine(const BenchSummary& whole, const BenchSummary& steady) {
  return absl::StrFormat(
      "  batch        %.1f sequences and %.1f %% of the KV pages in full steps; %d preempted, %d "
      "tokens computed again, %d prompt tokens shared\n",
      Ratio(steady.num_sequences, steady.num_steps), kPercent * steady.kv_page_share_mean,
      whole.num_preempted_sequences, whole.num_recomputed_tokens, whole.num_shared_prompt_tokens);
}

std::string LaneLine(const BenchSummary& summary) {
  std::string line = "  lanes busy  ";
  for (const Lane lane : kAllLanes) {
    absl::StrAppendFormat(
        &line, " %s %.1f %%", LaneName(lane),
        kPercent * Ratio(summary.busy_us(lane) * kSecondsPerMicrosecond, summary.step_seconds));
  }
  absl::StrAppendFormat(&line, "; overlap io %.1f %%, compute %.1f %%\n",
                        kPercent * Ratio(summary.transfer_overlapped_us, TransferUs(summary)),
                        kPercent * Ratio(summary.compute_overlapped_us, ComputeUs(summary)));
  return line;
}

std::string BoundsLine(const BenchSummary& summary) {
  const Bounds bounds = BoundsOf(summary);
  return absl::StrFormat(
      "  bounds       link %.2f ms, cpu %.2f ms, gpu %.2f ms a step; a step takes %.3f of the "
      "longest\n",
      bounds.link_us * kMillisecondsPerMicrosecond, bounds.cpu_us * kMillisecondsPerMicrosecond,
      bounds.gpu_us * kMillisecondsPerMicrosecond,
      Ratio(summary.step_us_mean, bounds.longest_us()));
}

std::string LinkLine(const BenchSummary& summary, const LinkRates::Row* roof) {
  if (roof == nullptr) return "  link         none\n";
  const double busy_rate = Ratio(static_cast<double>(summary.h2d_bytes),
                                 summary.busy_us(Lane::kHostToDevice) * kSecondsPerMicrosecond);
  const double roof_tokens_per_s = LinkRoofTokensPerSecond(summary, *roof);
  return absl::StrFormat(
      "  link         h2d %.2f GB/s while busy, %.1f %% of the probed %.2f; roof %.1f tok/s, "
      "reached %.1f %%\n",
      busy_rate / kGiga, kPercent * busy_rate / roof->h2d_bytes_per_s,
      roof->h2d_bytes_per_s / kGiga, roof_tokens_per_s,
      kPercent * Ratio(GeneratedPerSecond(summary), roof_tokens_per_s));
}

std::string PlanLines(const BenchRun& run) {
  const PlanInfo& plan = run.plan;
  std::string lines = absl::StrFormat(
      "  plan         %s on %s, %d micro-batches, %d of %d weight pages resident, %s\n",
      plan.schedule, plan.backend, plan.num_micro_batches, plan.num_resident_weight_pages,
      plan.num_weight_pages, plan.host_memory_pinned ? "pinned" : "not pinned");
  std::map<std::string, int64_t> totals;
  for (const MemoryUse& use : plan.memory) totals[use.tier] += use.bytes;
  absl::StrAppend(&lines, "  memory      ");
  for (const auto& [tier, bytes] : totals) {
    absl::StrAppendFormat(&lines, " %s %.2f GiB", tier, static_cast<double>(bytes) / kGiB);
  }
  absl::StrAppend(&lines, "\n");
  if (run.expert_shares.empty()) return lines;
  const auto [min, max] = std::minmax_element(run.expert_shares.begin(), run.expert_shares.end());
  const double num_experts = static_cast<double>(run.expert_shares.size());
  absl::StrAppendFormat(&lines, "  experts      shares %.3f to %.3f of even\n", *min * num_experts,
                        *max * num_experts);
  return lines;
}

}  // namespace

const LinkRates::Row* RoofOfLink(const std::optional<LinkRates>& link) {
  const LinkRates::Row* roof = nullptr;
  if (!link.has_value()) return roof;
  for (const LinkRates::Row& row : link->rows) {
    if (row.copy_bytes <= kRoofCopyBytes) roof = &row;
  }
  return roof;
}

ordered_json LinkRatesToJson(const LinkRates& link) {
  ordered_json rows = ordered_json::array();
  for (const LinkRates::Row& row : link.rows) {
    rows.push_back({{"copy_bytes", row.copy_bytes},
                    {"h2d_bytes_per_s", row.h2d_bytes_per_s},
                    {"d2h_bytes_per_s", row.d2h_bytes_per_s},
                    {"both_bytes_per_s", row.both_bytes_per_s}});
  }
  return {{"rows", rows}};
}

std::string LinkRatesTable(const LinkRates& link) {
  std::string table =
      absl::StrFormat("%12s %10s %10s %10s   GB/s\n", "copy KiB", "h2d", "d2h", "both");
  for (const LinkRates::Row& row : link.rows) {
    absl::StrAppendFormat(&table, "%12d %10.2f %10.2f %10.2f\n", row.copy_bytes / 1024,
                          row.h2d_bytes_per_s / kGiga, row.d2h_bytes_per_s / kGiga,
                          row.both_bytes_per_s / kGiga);
  }
  return table;
}

ordered_json BenchRunToJson(const BenchRun& run) {
  const LinkRates::Row* roof = RoofOfLink(run.link);
  int32_t peak_sequences = 0;
  for (const BenchStep& step : run.steps) {
    peak_sequences = std::max(peak_sequences, step.stats.num_sequences);
  }
  const auto window = [&](BenchWindow window) {
    return SummaryToJson(SummarizeSteps(run.steps, window), roof);
  };
  return {
      {"benchmark", "throughput"},
      {"workload", run.workload},
      {"lengths", run.lengths},
      {"shared_prefix_tokens", run.num_shared_prefix_tokens},
      {"requests", run.num_requests},
      {"succeeded", run.num_succeeded},
      {"failed", run.num_failed},
      {"stopped_early", run.stopped_early},
      {"seconds", run.seconds},
      {"generated_tokens", run.num_generated_tokens},
      {"prompt_tokens", run.num_prompt_tokens},
      {"generated_tokens_per_s", Ratio(run.num_generated_tokens, run.seconds)},
      {"prompt_tokens_per_s", Ratio(run.num_prompt_tokens, run.seconds)},
      {"peak_sequences", peak_sequences},
      {"steady", window(BenchWindow::kSteady)},
      {"decode_steady", window(BenchWindow::kDecodeSteady)},
      {"whole_run", window(BenchWindow::kWholeRun)},
      {"link", run.link.has_value() ? LinkRatesToJson(*run.link) : ordered_json(nullptr)},
      {"experts", ExpertsToJson(run.expert_shares)},
      {"model",
       {{"name", run.model.name},
        {"architecture", run.model.architecture},
        {"num_parameters", run.model.num_parameters},
        {"num_active_parameters", run.model.num_active_parameters},
        {"max_model_len", run.model.max_model_len},
        {"cut_to_layers", run.num_layers}}},
      {"plan", PlanToJson(run.plan)},
      {"memory", MemoryToJson(run.plan)},
  };
}

std::string BenchRunSummary(const BenchRun& run) {
  const BenchSummary whole = SummarizeSteps(run.steps, BenchWindow::kWholeRun);
  const BenchSummary steady = SummarizeSteps(run.steps, BenchWindow::kSteady);
  const BenchSummary decode = SummarizeSteps(run.steps, BenchWindow::kDecodeSteady);
  // The lines below the windows are about decoding if there was any.
  const BenchSummary& detailed = decode.num_steps > 0 ? decode : steady;
  const LinkRates::Row* roof = RoofOfLink(run.link);
  return absl::StrCat(
      absl::StrFormat(
          "%s: %d of %d requests%s, %d generated and %d prompt tokens in %.2f s, %.1f generated "
          "tok/s\n",
          run.workload, run.num_succeeded, run.num_requests,
          run.stopped_early ? " (stopped early)" : "", run.num_generated_tokens,
          run.num_prompt_tokens, run.seconds, Ratio(run.num_generated_tokens, run.seconds)),
      WindowLine("whole run", whole), WindowLine("full batch", steady),
      WindowLine("decode only", decode), BatchLine(whole, steady), LaneLine(detailed),
      BoundsLine(detailed), LinkLine(detailed, roof), PlanLines(run));
}

}  // namespace moelight
