#include "server/bench_options.h"

#include <variant>

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/bench_workload.h"

namespace moelight {
namespace {

// A flag of `bench throughput` and where its value goes; numbers are within [min, max].
struct BenchFlag {
  absl::string_view name;
  std::variant<std::string BenchOptions::*, int64_t BenchOptions::*> field;
  int64_t min = 0;
  int64_t max = 0;
};

// As AdminService's StartTrace.
constexpr int64_t kMaxTraceSteps = 1000;
constexpr int64_t kMillion = 1'000'000;

const BenchFlag kFlags[] = {
    {"--workload", &BenchOptions::workload},
    {"--requests", &BenchOptions::num_requests, 1, 10 * kMillion},
    {"--layers", &BenchOptions::num_layers, 1, 1000},
    {"--trace", &BenchOptions::trace_file},
    {"--trace-steps", &BenchOptions::trace_steps, 1, kMaxTraceSteps},
    {"--trace-after", &BenchOptions::trace_after, 0, kMillion},
    {"--steady-steps", &BenchOptions::steady_steps, 1, kMillion},
};

absl::Status SetFlag(const BenchFlag& flag, const std::string& text, BenchOptions* options) {
  if (const auto* field = std::get_if<std::string BenchOptions::*>(&flag.field)) {
    options->** field = text;
    return absl::OkStatus();
  }
  int64_t& value = options->*std::get<int64_t BenchOptions::*>(flag.field);
  if (!absl::SimpleAtoi(text, &value) || value < flag.min || value > flag.max) {
    return absl::InvalidArgumentError(absl::StrCat(
        flag.name, ": \"", text, "\" is not a number of ", flag.min, " to ", flag.max));
  }
  return absl::OkStatus();
}

absl::Status SetOption(absl::string_view name, const std::string& value, BenchOptions* options) {
  if (name == "--config") {
    options->config = value;
    return absl::OkStatus();
  }
  if (name == "--set") {
    options->overrides.push_back(value);
    return absl::OkStatus();
  }
  if (options->command == "throughput") {
    for (const BenchFlag& flag : kFlags) {
      if (flag.name == name) return SetFlag(flag, value, options);
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown argument \"", name, "\" of bench ", options->command));
}

absl::Status CheckTogether(const BenchOptions& options) {
  RETURN_IF_ERROR(FindBenchWorkload(options.workload).status());
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
    "                 [--workload NAME] [--requests N] [--layers N] [--steady-steps K]\n"
    "                 [--trace FILE [--trace-steps K] [--trace-after S]]\n"
    "       moelightd bench link [--config FILE] [--set KEY=VALUE]...\n"
    "\n"
    "  throughput  runs requests through the engine of the configuration, without RPC and store\n"
    "  link        measures the link between host and GPU by size of copy\n"
    "\n"
    "Figures go to stdout as one JSON object, progress and a summary to stderr.\n"
    "\n"
    "  --workload NAME    mtbench (default), reasoning, summarization or long; lengths come from\n"
    "                     a fixed seed, end of sequence is ignored\n"
    "  --requests N       how many, default 1000\n"
    "  --layers N         cuts the model to its first N layers\n"
    "  --steady-steps K   ends the run after K steps with a full batch\n"
    "  --trace FILE       writes a step trace for chrome://tracing or Perfetto\n"
    "  --trace-steps K    of so many steps, default 16\n"
    "  --trace-after S    after the first S steps, default 0\n";

absl::StatusOr<BenchOptions> ParseBenchOptions(const std::vector<std::string>& args) {
  BenchOptions options;
  if (args.empty() || absl::StartsWith(args[0], "-")) {
    return absl::InvalidArgumentError("bench needs what to measure: throughput or link");
  }
  options.command = args[0];
  if (options.command != "throughput" && options.command != "link") {
    return absl::InvalidArgumentError(
        absl::StrCat("bench \"", options.command, "\" is not throughput or link"));
  }
  for (size_t i = 1; i < args.size(); ++i) {
    // "--name=value" or "--name value".
    const size_t equals = args[i].find('=');
    const std::string name = args[i].substr(0, equals);
    std::string value;
    if (equals != std::string::npos) {
      value = args[i].substr(equals + 1);
    } else if (i + 1 < args.size()) {
      value = args[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(name, " needs a value"));
    }
    RETURN_IF_ERROR(SetOption(name, value, &options));
  }
  RETURN_IF_ERROR(CheckTogether(options));
  return options;
}

}  // namespace moelight
