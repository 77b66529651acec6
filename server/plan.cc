#include "server/plan.h"

#include <fstream>
#include <iostream>
#include <memory>
#include <utility>

#include <absl/strings/str_cat.h>
#include <google/protobuf/util/json_util.h>
#include <nlohmann/json.hpp>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "server/admin_service.h"
#include "server/bench_flags.h"
#include "server/bench_workload.h"
#include "server/config.h"
#include "server/convert.h"
#include "server/hardware.h"
#include "server/hardware_file.h"
#include "server/plan_report.h"
#include "server/roofline_svg.h"

namespace moelight {
namespace {

constexpr int64_t kMaxSimulatedRequests = 1'000'000;

constexpr char kPlanHelp[] =
    "usage: moelightd plan [--config FILE] [--set KEY=VALUE]... [--workload NAME] [--json]\n"
    "                      [--svg FILE] [--simulate N] [--hardware FILE] [--model DIR]\n"
    "\n"
    "Prints what would run, where memory would go, how fast it would be and what else would "
    "bring.\n"
    "Nothing is loaded.\n"
    "\n"
    "  --workload NAME   lengths of mtbench, reasoning, summarization or long in place of the\n"
    "                    configuration's engine.expected_* keys\n"
    "  --hardware FILE   for the machine that FILE describes (deploy/hardware has some)\n"
    "  --model DIR       for the model in DIR; its config.json is enough\n"
    "  --json            the same as one JSON object\n"
    "  --svg FILE        writes the roofline of the machine with this workload's points\n"
    "  --simulate N      runs N requests in virtual time\n";

struct PlanArguments {
  std::string config = "config.yaml";
  std::vector<std::string> overrides;
  std::string hardware;
  std::string model;
  std::string workload;
  std::string svg;
  bool json = false;
  int64_t num_simulated = 0;
};

absl::StatusOr<PlanArguments> ParsePlanArguments(const std::vector<std::string>& args) {
  PlanArguments parsed;
  const BenchFlag flags[] = {
      {"--config", &parsed.config},
      {"--set", &parsed.overrides},
      {"--hardware", &parsed.hardware},
      {"--model", &parsed.model},
      {"--workload", &parsed.workload},
      {"--svg", &parsed.svg},
      {"--json", &parsed.json},
      {"--simulate", &parsed.num_simulated, 1, kMaxSimulatedRequests},
  };
  RETURN_IF_ERROR(ParseBenchFlags("plan", args, flags));
  if (!parsed.model.empty())
    parsed.overrides.push_back(absl::StrCat("engine.model=", parsed.model));
  if (!parsed.workload.empty()) RETURN_IF_ERROR(FindBenchWorkload(parsed.workload).status());
  return parsed;
}

// What the plan is for: the configuration with what the arguments put in its place.
absl::StatusOr<EngineOptions> OptionsFor(const PlanArguments& arguments, const Config& config,
                                         Logger& logger) {
  EngineOptions options = config.engine;
  if (!arguments.workload.empty()) {
    options.workload = HintFor(**FindBenchWorkload(arguments.workload));
  }
  if (arguments.hardware.empty()) {
    ASSIGN_OR_RETURN(options.hardware, HardwareFor(config, logger));
    return options;
  }
  ASSIGN_OR_RETURN(HardwareProfile profile, ReadHardwareProfile(arguments.hardware));
  options.hardware = std::make_shared<HardwareProfile>(std::move(profile));
  options.device = Engine::kSimulatedDevice;
  return options;
}

std::vector<int32_t> SimulatedPrompts(const PlanArguments& arguments, const WorkloadHint& hint) {
  if (!arguments.workload.empty()) {
    return DrawPromptLengths(**FindBenchWorkload(arguments.workload), arguments.num_simulated);
  }
  return std::vector<int32_t>(arguments.num_simulated, hint.mean_prompt_tokens);
}

nlohmann::ordered_json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  CHECK(google::protobuf::util::MessageToJsonString(message, &text, options).ok());
  return nlohmann::ordered_json::parse(text);
}

nlohmann::ordered_json ToJson(const SimulatedRun& run) {
  return {{"seconds", run.seconds},
          {"steps", run.num_steps},
          {"generated_tokens", run.num_generated_tokens},
          {"prompt_tokens", run.num_prompt_tokens},
          {"generated_tokens_per_s", run.tokens_per_s()},
          {"peak_sequences", run.peak_sequences},
          {"decode_step_us", run.decode_step_us}};
}

absl::Status WriteSvg(const std::string& path, const ModelInfo& model, const PlanInfo& plan) {
  if (!plan.prediction.has_value()) {
    return absl::FailedPreconditionError("--svg: there is no profile of this hardware to draw");
  }
  RooflineChart chart = plan.prediction->roofline;
  chart.title = absl::StrCat(model.name, " on ", chart.title);
  std::ofstream stream(path, std::ios::binary);
  stream << RooflineSvg(chart);
  stream.close();
  if (!stream) return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
  return absl::OkStatus();
}

absl::Status PrintPlan(const PlanArguments& arguments, const EngineOptions& options) {
  ASSIGN_OR_RETURN(const ModelInfo model, Engine::Describe(options));
  ASSIGN_OR_RETURN(const PlanInfo plan, Engine::Plan(options));
  std::optional<SimulatedRun> run;
  if (arguments.num_simulated > 0) {
    ASSIGN_OR_RETURN(run, Engine::Simulate(options, SimulatedPrompts(arguments, options.workload),
                                           options.workload.num_output_tokens));
  }
  if (!arguments.svg.empty()) RETURN_IF_ERROR(WriteSvg(arguments.svg, model, plan));
  if (!arguments.json) {
    std::cout << PlanTable(model, plan);
    if (run.has_value()) std::cout << SimulationLine(*run);
    return absl::OkStatus();
  }
  nlohmann::ordered_json json = {{"backend", plan.backend},
                                 {"model", ToJson(ToProto(model))},
                                 {"plan", ToJson(ToProto(plan))}};
  if (run.has_value()) json["simulated"] = ToJson(*run);
  std::cout << json.dump(2) << "\n";
  return absl::OkStatus();
}

}  // namespace

int RunPlan(const std::vector<std::string>& args, const Environment& environment) {
  if (!args.empty() && (args[0] == "--help" || args[0] == "-h")) {
    std::cout << kPlanHelp;
    return 0;
  }
  const absl::StatusOr<PlanArguments> arguments = ParsePlanArguments(args);
  if (!arguments.ok()) {
    std::cerr << "moelightd: " << arguments.status().message() << "; see moelightd plan --help\n";
    return kExitUsage;
  }
  const absl::StatusOr<Config> config =
      LoadConfig({arguments->config, environment, arguments->overrides});
  if (!config.ok()) {
    std::cerr << config.status().message() << "\n";
    return kExitUsage;
  }
  Logger logger(LogLevel::kWarning, LogFormat::kText);
  const absl::StatusOr<EngineOptions> options = OptionsFor(*arguments, *config, logger);
  absl::Status status = options.status();
  if (status.ok()) status = PrintPlan(*arguments, *options);
  if (status.ok()) return 0;
  logger.Error("plan_failed",
               {{"code", absl::StatusCodeToString(status.code())}, {"reason", status.message()}});
  return kExitFailure;
}

}  // namespace moelight
