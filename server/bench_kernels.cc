#include "server/bench_kernels.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

namespace moelight {
namespace {

using nlohmann::ordered_json;

constexpr double kGiga = 1e9;
constexpr double kPercent = 100;
constexpr double kMillisecondsPerSecond = 1e3;
constexpr double kMiB = 1 << 20;
constexpr int64_t kMillion = 1'000'000;
// Less would stay in a cache.
constexpr int64_t kMinMemoryBytes = int64_t{1} << 30;
constexpr int64_t kMaxMemoryBytes = int64_t{1} << 40;

// From where a call is short beside a fork and a join to where one layer is 2 GiB; and one very
// long sequence, whose keys all threads share.
const std::vector<int64_t>& DefaultContexts() {
  static const auto* const contexts = new std::vector<int64_t>{128, 512, 1024, 2048, 4096, 8192};
  return *contexts;
}
constexpr int64_t kDefaultBatch = 64;
constexpr AttentionProbeSpec::Shape kLongSequence = {.context = 32768, .batch = 1};

void AddCommonFlags(KernelBenchOptions* options, std::vector<BenchFlag>* flags) {
  flags->push_back({"--isa", &options->isa});
  flags->push_back({"--threads", &options->num_threads, 1, 1024});
  flags->push_back({"--memory", &options->memory, kMinMemoryBytes, kMaxMemoryBytes});
  flags->push_back({"--beside-copy", &options->beside_copy});
}

// --- Lines for people. ---

const char kRateHeader[] = "         ms     GB/s  GFLOP/s |  roofs  GB/s  GFLOP/s | reached, %\n";

// The figures that all kernels have. The roof that binds is named.
std::string RateColumns(const KernelRate& rate) {
  const double seconds = rate.seconds.median;
  std::string columns = absl::StrFormat(
      "%11.3f %8.2f %8.1f |      %7.2f %8.1f | %5.1f (%.1f to %.1f) of %s",
      seconds * kMillisecondsPerSecond, static_cast<double>(rate.bytes) / seconds / kGiga,
      static_cast<double>(rate.flops) / seconds / kGiga, rate.read_bytes_per_s.median / kGiga,
      rate.peak_flops_per_s.median / kGiga, kPercent * rate.roof_share.median,
      kPercent * rate.roof_share.min, kPercent * rate.roof_share.max,
      rate.is_bound_by_reads() ? "reads" : "peak");
  if (rate.beside_copy.has_value()) {
    const BesideCopyRate& beside = *rate.beside_copy;
    absl::StrAppendFormat(
        &columns, " | beside copies %.3f ms, %.1f %% of alone; h2d %.2f GB/s, %.1f %% of %.2f",
        beside.seconds.median * kMillisecondsPerSecond, kPercent * seconds / beside.seconds.median,
        beside.copy_beside_bytes_per_s.median / kGiga,
        kPercent * beside.copy_beside_bytes_per_s.median / beside.copy_alone_bytes_per_s.median,
        beside.copy_alone_bytes_per_s.median / kGiga);
  }
  absl::StrAppend(&columns, "\n");
  return columns;
}

// --- JSON for machines. ---

ordered_json SpreadToJson(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

void AppendRate(const KernelRate& rate, ordered_json* row) {
  const double seconds = rate.seconds.median;
  (*row)["bytes"] = rate.bytes;
  (*row)["flops"] = rate.flops;
  (*row)["seconds"] = SpreadToJson(rate.seconds);
  (*row)["bytes_per_s"] = static_cast<double>(rate.bytes) / seconds;
  (*row)["flops_per_s"] = static_cast<double>(rate.flops) / seconds;
  (*row)["roofs"] = {{"read_bytes_per_s", SpreadToJson(rate.read_bytes_per_s)},
                     {"peak_flops_per_s", SpreadToJson(rate.peak_flops_per_s)},
                     {"binding", rate.is_bound_by_reads() ? "read" : "peak"},
                     {"reached_ratio", SpreadToJson(rate.roof_share)}};
  if (!rate.beside_copy.has_value()) return;
  const BesideCopyRate& beside = *rate.beside_copy;
  (*row)["beside_copy"] = {{"seconds", SpreadToJson(beside.seconds)},
                           {"ratio_to_alone", seconds / beside.seconds.median},
                           {"h2d_alone_bytes_per_s", SpreadToJson(beside.copy_alone_bytes_per_s)},
                           {"h2d_beside_bytes_per_s", SpreadToJson(beside.copy_beside_bytes_per_s)},
                           {"h2d_ratio_to_alone", beside.copy_beside_bytes_per_s.median /
                                                      beside.copy_alone_bytes_per_s.median}};
}

ordered_json InfoToJson(const CpuProbeInfo& info) {
  return {{"threads", info.num_threads},
          {"pinned", info.is_pinned},
          {"last_level_cache_bytes", info.cache_bytes},
          {"memory_bytes", info.memory_bytes}};
}

}  // namespace

std::vector<BenchFlag> AttentionBenchFlags(KernelBenchOptions* options) {
  std::vector<BenchFlag> flags = {
      {"--context", &options->contexts, 1, 16 * kMillion},
      {"--batch", &options->batches, 1, 65'536},
      {"--heads", &options->heads, 1, 1024},
      {"--head-dim", &options->head_dim, 2, 1024},
      {"--page-tokens", &options->page_tokens, 1, 1024},
      {"--kv", &options->kv_format},
  };
  AddCommonFlags(options, &flags);
  return flags;
}

std::vector<BenchFlag> ExpertBenchFlags(KernelBenchOptions* options) {
  std::vector<BenchFlag> flags = {
      {"--tokens", &options->tokens, 1, 65'536},
      {"--shape", &options->shape, 1, kMillion},
  };
  AddCommonFlags(options, &flags);
  return flags;
}

AttentionProbeSpec MakeAttentionSpec(const KernelBenchOptions& options) {
  AttentionProbeSpec spec;
  const bool is_default = options.contexts.values.empty() && options.batches.values.empty();
  const std::vector<int64_t>& contexts =
      options.contexts.values.empty() ? DefaultContexts() : options.contexts.values;
  const std::vector<int64_t> batches =
      options.batches.values.empty() ? std::vector<int64_t>{kDefaultBatch} : options.batches.values;
  for (const int64_t batch : batches) {
    for (const int64_t context : contexts) {
      spec.shapes.push_back({static_cast<int32_t>(context), static_cast<int32_t>(batch)});
    }
  }
  if (is_default) spec.shapes.push_back(kLongSequence);
  spec.num_attention_heads = static_cast<int32_t>(options.heads.values[0]);
  spec.num_key_value_heads = static_cast<int32_t>(options.heads.values[1]);
  spec.head_dim = static_cast<int32_t>(options.head_dim);
  spec.page_tokens = static_cast<int32_t>(options.page_tokens);
  spec.kv_format = options.kv_format;
  return spec;
}

ExpertProbeSpec MakeExpertSpec(const KernelBenchOptions& options) {
  ExpertProbeSpec spec;
  spec.tokens = options.tokens.values;
  spec.hidden_size = options.shape.values[0];
  spec.intermediate_size = options.shape.values[1];
  return spec;
}

KernelProbeOptions MakeKernelProbeOptions(const KernelBenchOptions& options) {
  return {options.isa, options.memory.bytes, options.beside_copy};
}

std::string AttentionHeader(const KernelBenchOptions& options) {
  return absl::StrCat(
      absl::StrFormat("decode attention, %d query and %d KV heads of %d, %s, pages of %d tokens\n",
                      options.heads.values[0], options.heads.values[1], options.head_dim,
                      options.kv_format, options.page_tokens),
      absl::StrFormat("%-12s %7s %5s ", "isa", "context", "batch"), kRateHeader);
}

std::string AttentionLine(const AttentionRate& rate) {
  return absl::StrCat(
      absl::StrFormat("%-12s %7d %5d ", rate.rate.isa, rate.shape.context, rate.shape.batch),
      RateColumns(rate.rate));
}

std::string ExpertHeader(const KernelBenchOptions& options) {
  return absl::StrCat(absl::StrFormat("one expert of %d x %d, weights from memory\n",
                                      options.shape.values[0], options.shape.values[1]),
                      absl::StrFormat("%-12s %7s ", "isa", "tokens"), kRateHeader);
}

std::string ExpertLine(const ExpertRate& rate) {
  return absl::StrCat(absl::StrFormat("%-12s %7d ", rate.rate.isa, rate.tokens),
                      RateColumns(rate.rate));
}

std::string ProbeFooter(const CpuProbeInfo& info) {
  return absl::StrFormat(
      "%d threads%s; calls go round %.0f MiB, the last level of cache has %.0f\n", info.num_threads,
      info.is_pinned ? ", pinned" : "", static_cast<double>(info.memory_bytes) / kMiB,
      static_cast<double>(info.cache_bytes) / kMiB);
}

ordered_json AttentionRatesToJson(const AttentionProbeSpec& spec, const AttentionRates& rates) {
  ordered_json rows = ordered_json::array();
  for (const AttentionRate& rate : rates.rows) {
    ordered_json row = {
        {"isa", rate.rate.isa}, {"context", rate.shape.context}, {"batch", rate.shape.batch}};
    AppendRate(rate.rate, &row);
    rows.push_back(std::move(row));
  }
  return {{"benchmark", "attention"},
          {"heads", {{"query", spec.num_attention_heads}, {"kv", spec.num_key_value_heads}}},
          {"head_dim", spec.head_dim},
          {"page_tokens", spec.page_tokens},
          {"kv_format", spec.kv_format},
          {"machine", InfoToJson(rates.info)},
          {"rows", std::move(rows)}};
}

ordered_json ExpertRatesToJson(const ExpertProbeSpec& spec, const ExpertRates& rates) {
  ordered_json rows = ordered_json::array();
  for (const ExpertRate& rate : rates.rows) {
    ordered_json row = {{"isa", rate.rate.isa}, {"tokens", rate.tokens}};
    AppendRate(rate.rate, &row);
    rows.push_back(std::move(row));
  }
  return {{"benchmark", "experts"},
          {"hidden_size", spec.hidden_size},
          {"intermediate_size", spec.intermediate_size},
          {"machine", InfoToJson(rates.info)},
          {"rows", std::move(rows)}};
}

}  // namespace moelight
