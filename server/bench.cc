#include "server/bench.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "server/bench_kernels.h"
#include "server/bench_load.h"
#include "server/bench_options.h"
#include "server/bench_recorder.h"
#include "server/bench_report.h"
#include "server/bench_workload.h"
#include "server/config.h"
#include "server/hardware.h"

namespace moelight {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Absent: the device has no link.
absl::StatusOr<std::optional<LinkRates>> ProbeLinkIfAny(const EngineOptions& options) {
  absl::StatusOr<LinkRates> link = Engine::ProbeLink(options);
  if (link.ok()) return *std::move(link);
  if (absl::IsFailedPrecondition(link.status())) return std::nullopt;
  return link.status();
}

void PrintProgress(const BenchLoad::Counts& counts, int64_t num_requests,
                   const BenchRecorder::Totals& totals, int64_t num_tokens_wanted, double seconds) {
  const double tokens_per_s = totals.num_generated_tokens / seconds;
  // Where answers end by chance, there may be more tokens than their mean says.
  const int64_t num_left = std::max<int64_t>(0, num_tokens_wanted - totals.num_generated_tokens);
  std::cerr << absl::StrFormat("bench: %d of %d requests, %d steps, peak %d sequences, %.1f tok/s",
                               counts.num_succeeded, num_requests, totals.num_steps,
                               totals.peak_sequences, tokens_per_s);
  if (totals.num_generated_tokens > 0) {
    std::cerr << absl::StrFormat(", %.0f s left", num_left / tokens_per_s);
  }
  std::cerr << "\n";
}

absl::Status WriteTrace(Engine& engine, const std::string& file) {
  ASSIGN_OR_RETURN(const std::string trace, engine.StopTrace());
  std::ofstream stream(file, std::ios::binary);
  stream << trace;
  stream.close();
  if (!stream) return absl::UnavailableError(absl::StrCat(file, ": cannot be written"));
  return absl::OkStatus();
}

// What happens after steps of the run, on the engine's thread.
void StartHooks(const BenchOptions& options, Engine& engine, BenchLoad& load,
                BenchRecorder& recorder) {
  const auto start_trace = [&options, &engine]() {
    engine.StartTrace(static_cast<int32_t>(options.trace_steps));
  };
  const bool has_trace = !options.trace_file.empty();
  if (has_trace && options.trace_after == 0) start_trace();
  const auto kv_page_share = [&engine]() {
    const EngineStats stats = engine.Stats();
    return stats.num_kv_pages == 0 ? 0.0
                                   : static_cast<double>(stats.num_kv_pages_used) /
                                         static_cast<double>(stats.num_kv_pages);
  };
  recorder.Begin(kv_page_share,
                 [&options, &load, start_trace, has_trace](const BenchRecorder::Totals& totals) {
                   if (has_trace && totals.num_steps == options.trace_after) start_trace();
                   if (options.steady_steps > 0 && totals.num_full_steps >= options.steady_steps)
                     load.Stop();
                 });
}

absl::StatusOr<BenchRun> Measure(const BenchOptions& options, const BenchWorkload& workload,
                                 const EngineOptions& engine_options, Logger& logger) {
  BenchRun run;
  ASSIGN_OR_RETURN(run.link, ProbeLinkIfAny(engine_options));
  // Both outlive the engine, which calls them.
  BenchRecorder recorder;
  Clock::time_point begin;
  BenchLoad load(workload, options.num_requests, [&](const BenchLoad::Counts& counts) {
    PrintProgress(counts, options.num_requests, recorder.totals(),
                  options.num_requests * workload.num_output_tokens, SecondsSince(begin));
  });
  ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                   Engine::Create(engine_options, logger, &recorder));
  if (load.max_request_tokens() > engine->model().max_model_len) {
    return absl::InvalidArgumentError(
        absl::StrCat("workload ", workload.name, " has requests of ", load.max_request_tokens(),
                     " tokens, the model takes ", engine->model().max_model_len));
  }
  StartHooks(options, *engine, load, recorder);
  begin = Clock::now();
  RETURN_IF_ERROR(load.Run(*engine));
  run.seconds = SecondsSince(begin);
  run.stopped_early = load.is_stopped();
  if (!options.trace_file.empty()) RETURN_IF_ERROR(WriteTrace(*engine, options.trace_file));
  run.model = engine->model();
  run.plan = engine->plan();
  run.expert_shares = engine->Stats().expert_shares;
  // The last step is told after the last request of it has ended: all are here once the engine's
  // thread has.
  recorder.EndSampling();
  engine.reset();
  run.steps = recorder.steps();

  const BenchLoad::Counts counts = load.counts();
  if (!counts.first_error.ok()) std::cerr << "bench: " << counts.first_error.message() << "\n";
  run.num_succeeded = counts.num_succeeded;
  run.num_failed = counts.num_failed;
  run.num_prompt_tokens = counts.num_prompt_tokens;
  run.num_generated_tokens = counts.num_generated_tokens;
  if (run.stopped_early) {  // most requests were under way; the steps know what they got
    const BenchSummary whole = SummarizeSteps(run.steps, BenchWindow::kWholeRun);
    run.num_prompt_tokens = whole.num_prompt_tokens;
    run.num_generated_tokens = whole.num_generated_tokens;
  }
  run.workload = std::string(workload.name);
  run.lengths = options.lengths;
  run.num_shared_prefix_tokens = options.num_shared_prefix_tokens;
  run.num_requests = options.num_requests;
  run.num_layers = engine_options.num_hidden_layers;
  return run;
}

int Fail(const absl::Status& status) {
  std::cerr << "moelightd: bench: " << absl::StatusCodeToString(status.code()) << ": "
            << status.message() << "\n";
  return kExitFailure;
}

int RunLink(const EngineOptions& engine_options) {
  const absl::StatusOr<LinkRates> link = Engine::ProbeLink(engine_options);
  if (!link.ok()) return Fail(link.status());
  std::cerr << LinkRatesTable(*link);
  std::cout << LinkRatesToJson(*link).dump(2) << "\n";
  return 0;
}

int RunAttention(const KernelBenchOptions& options, const EngineOptions& engine_options) {
  const AttentionProbeSpec spec = MakeAttentionSpec(options);
  bool has_header = false;  // comes with the first row, or not at all
  const absl::StatusOr<AttentionRates> rates = Engine::ProbeAttention(
      engine_options, spec, MakeKernelProbeOptions(options), [&](const AttentionRate& rate) {
        if (!std::exchange(has_header, true)) std::cerr << AttentionHeader(options);
        std::cerr << AttentionLine(rate) << std::flush;
      });
  if (!rates.ok()) return Fail(rates.status());
  std::cerr << ProbeFooter(rates->info);
  std::cout << AttentionRatesToJson(spec, *rates).dump(2) << "\n";
  return 0;
}

int RunExperts(const KernelBenchOptions& options, const EngineOptions& engine_options) {
  const ExpertProbeSpec spec = MakeExpertSpec(options);
  bool has_header = false;  // comes with the first row, or not at all
  const absl::StatusOr<ExpertRates> rates = Engine::ProbeExperts(
      engine_options, spec, MakeKernelProbeOptions(options), [&](const ExpertRate& rate) {
        if (!std::exchange(has_header, true)) std::cerr << ExpertHeader(options);
        std::cerr << ExpertLine(rate) << std::flush;
      });
  if (!rates.ok()) return Fail(rates.status());
  std::cerr << ProbeFooter(rates->info);
  std::cout << ExpertRatesToJson(spec, *rates).dump(2) << "\n";
  return 0;
}

// A row of the table, varied as the arguments say.
absl::StatusOr<BenchWorkload> MakeWorkload(const BenchOptions& options,
                                           const EngineOptions& engine_options) {
  ASSIGN_OR_RETURN(const BenchWorkload* row, FindBenchWorkload(options.workload));
  BenchWorkload workload = *row;
  workload.has_geometric_lengths = options.lengths == "geometric";
  workload.num_shared_prefix_tokens = static_cast<int32_t>(options.num_shared_prefix_tokens);
  if (workload.has_geometric_lengths && engine_options.load_format != "dummy") {
    return absl::InvalidArgumentError(
        absl::StrCat("--lengths geometric needs engine.load_format dummy, which is ",
                     engine_options.load_format, ": a real model ends its answers itself"));
  }
  return workload;
}

int RunThroughput(const BenchOptions& options, const Config& config, EngineOptions engine_options) {
  absl::StatusOr<BenchWorkload> workload = MakeWorkload(options, engine_options);
  if (!workload.ok()) return Fail(workload.status());
  if (workload->has_geometric_lengths) {
    engine_options.dummy_mean_output_tokens = workload->num_output_tokens;
  }
  Logger logger(LogLevel::kWarning, LogFormat::kText);
  absl::StatusOr<std::shared_ptr<const HardwareProfile>> hardware = HardwareFor(config, logger);
  if (!hardware.ok()) return Fail(hardware.status());
  engine_options.hardware = *std::move(hardware);
  engine_options.workload = HintFor(*workload);
  const absl::StatusOr<BenchRun> run = Measure(options, *workload, engine_options, logger);
  if (!run.ok()) return Fail(run.status());
  std::cerr << BenchRunSummary(*run);
  std::cout << BenchRunToJson(*run).dump(2) << "\n";
  return run->num_failed == 0 ? 0 : kExitFailure;
}

}  // namespace

int RunBench(const std::vector<std::string>& args, const Environment& environment) {
  if (!args.empty() && (args[0] == "--help" || args[0] == "-h")) {
    std::cout << kBenchHelp;
    return 0;
  }
  const absl::StatusOr<BenchOptions> options = ParseBenchOptions(args);
  if (!options.ok()) {
    std::cerr << "moelightd: " << options.status().message() << "; see moelightd bench --help\n";
    return kExitUsage;
  }
  const absl::StatusOr<Config> config =
      LoadConfig({options->config, environment, options->overrides});
  if (!config.ok()) {
    std::cerr << config.status().message() << "\n";
    return kExitUsage;
  }
  EngineOptions engine_options = config->engine;
  engine_options.num_hidden_layers = static_cast<int32_t>(options->num_layers);
  const KernelBenchOptions& kernels = options->kernels;
  if (kernels.num_threads > 0) {
    engine_options.cpu_threads = static_cast<int32_t>(kernels.num_threads);
  }
  if (options->command == "link") return RunLink(engine_options);
  if (options->command == "attention") return RunAttention(kernels, engine_options);
  if (options->command == "experts") return RunExperts(kernels, engine_options);
  return RunThroughput(*options, *config, engine_options);
}

}  // namespace moelight
