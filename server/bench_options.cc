#include "server/bench_options.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/bench_flags.h"
#include "server/bench_workload.h"

namespace moelight {
namespace {

// As AdminService's StartTrace.
constexpr int64_t kMaxTraceSteps = 1000;
constexpr int64_t kMillion = 1'000'000;

std::vector<BenchFlag> ThroughputFlags(BenchOptions* options) {
  return {
      {"--workload", &options->workload},
      {"--requests", &options->num_requests, 1, 10 * kMillion},
      {"--lengths", &options->lengths},
      {"--shared-prefix", &options->num_shared_prefix_tokens, 0, kMillion},
      {"--layers", &options->num_layers, 1, 1000},
      {"--trace", &options->trace_file},
      {"--trace-steps", &options->trace_steps, 1, kMaxTraceSteps},
      {"--trace-after", &options->trace_after, 0, kMillion},
      {"--steady-steps", &options->steady_steps, 1, kMillion},
  };
}

// What can be measured, and the flags that each command takes beside --config and --set.
struct BenchCommand {
  absl::string_view name;
  std::vector<BenchFlag> (*flags)(BenchOptions* options);
};
constexpr BenchCommand kCommands[] = {
    {"throughput", ThroughputFlags},
    {"link", [](BenchOptions*) { return std::vector<BenchFlag>(); }},
    {"attention", [](BenchOptions* options) { return AttentionBenchFlags(&options->kernels); }},
    {"experts", [](BenchOptions* options) { return ExpertBenchFlags(&options->kernels); }},
};
const char kCommandNames[] = "throughput, link, attention or experts";

absl::Status CheckTogether(const BenchOptions& options) {
  RETURN_IF_ERROR(FindBenchWorkload(options.workload).status());
  if (options.lengths != "fixed" && options.lengths != "geometric") {
    return absl::InvalidArgumentError(
        absl::StrCat("--lengths: \"", options.lengths, "\" is not fixed or geometric"));
  }
  const BenchOptions defaults;
  const bool has_trace_flags =
      options.trace_steps != defaults.trace_steps || options.trace_after != defaults.trace_after;
  if (options.trace_file.empty() && has_trace_flags) {
    return absl::InvalidArgumentError(
        "--trace-steps and --trace-after cannot take effect without --trace");
  }
  return absl::OkStatus();
}

}  // namespace

const char kBenchHelp[] =
    "usage: moelightd bench throughput [--config FILE] [--set KEY=VALUE]...\n"
    "                 [--workload NAME] [--requests N] [--lengths KIND] [--shared-prefix N]\n"
    "                 [--layers N] [--steady-steps K]\n"
    "                 [--trace FILE [--trace-steps K] [--trace-after S]]\n"
    "       moelightd bench link [--config FILE] [--set KEY=VALUE]...\n"
    "       moelightd bench attention [--config FILE] [--set KEY=VALUE]... [kernel flags]\n"
    "                 [--context N,...] [--batch N,...] [--heads H/K] [--head-dim D]\n"
    "                 [--page-tokens N] [--kv FORMAT]\n"
    "       moelightd bench experts [--config FILE] [--set KEY=VALUE]... [kernel flags]\n"
    "                 [--tokens N,...] [--shape HxI]\n"
    "\n"
    "  throughput  runs requests through the engine of the configuration, without RPC and store\n"
    "  link        measures the link between host and GPU by size of copy\n"
    "  attention   measures decode attention of the cpu backend by context and batch\n"
    "  experts     measures one expert on the cpu backend by number of tokens\n"
    "\n"
    "Figures go to stdout as one JSON object, progress and a summary to stderr.\n"
    "\n"
    "  --workload NAME    mtbench (default), reasoning, summarization or long; lengths come from\n"
    "                     a fixed seed\n"
    "  --requests N       how many, default 1000\n"
    "  --lengths KIND     of answers: fixed (default; end of sequence is ignored), or geometric\n"
    "                     (they end by chance, with the workload's length as the mean and 8 times\n"
    "                     that as the limit; needs engine.load_format dummy)\n"
    "  --shared-prefix N  puts the same N tokens before all prompts, default 0\n"
    "  --layers N         cuts the model to its first N layers\n"
    "  --steady-steps K   ends the run after K steps with a full batch\n"
    "  --trace FILE       writes a step trace for chrome://tracing or Perfetto\n"
    "  --trace-steps K    of so many steps, default 16\n"
    "  --trace-after S    after the first S steps, default 0\n"
    "\n"
    "Kernels are measured beside two roofs that take turns with them on the same threads: memory\n"
    "read in order, and multiply-adds on registers. What they read is never in a cache.\n"
    "\n"
    "  --isa NAME         one variant of the cpu backend, default each that the machine runs\n"
    "  --threads N        default engine.cpu_threads\n"
    "  --memory SIZE      for what is read, at most; default 4GiB\n"
    "  --beside-copy      measures beside copies from host memory to the GPU too\n"
    "  --context N,...    keys of each sequence, default 128 to 8192, and one of 32768 by itself\n"
    "  --batch N,...      sequences, default 64\n"
    "  --heads H/K        query and KV heads, default 32/8\n"
    "  --head-dim D       default 128\n"
    "  --page-tokens N    default 16\n"
    "  --kv FORMAT        of the KV cache, default bf16\n"
    "  --tokens N,...     of one call, default 1 to 1024\n"
    "  --shape HxI        hidden and intermediate size, default 4096x14336\n";

absl::StatusOr<BenchOptions> ParseBenchOptions(const std::vector<std::string>& args) {
  BenchOptions options;
  if (args.empty() || absl::StartsWith(args[0], "-")) {
    return absl::InvalidArgumentError(absl::StrCat("bench needs what to measure: ", kCommandNames));
  }
  options.command = args[0];
  for (const BenchCommand& command : kCommands) {
    if (command.name != options.command) continue;
    std::vector<BenchFlag> flags = command.flags(&options);
    flags.push_back({"--config", &options.config});
    flags.push_back({"--set", &options.overrides});
    RETURN_IF_ERROR(ParseBenchFlags(absl::StrCat("bench ", command.name),
                                    absl::MakeConstSpan(args).subspan(1), flags));
    RETURN_IF_ERROR(CheckTogether(options));
    return options;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("bench \"", options.command, "\" is not ", kCommandNames));
}

}  // namespace moelight
