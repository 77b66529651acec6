// moelightd: picks the subcommand.
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include <absl/strings/str_split.h>

#include "engine/engine.h"
#include "server/bench.h"
#include "server/command_line.h"
#include "server/doctor.h"
#include "server/key.h"
#include "server/plan.h"
#include "server/probe.h"
#include "server/serve.h"

namespace moelight {
namespace {

constexpr char kHelp[] =
    "moelightd serves a Mixture-of-Experts model over gRPC.\n"
    "\n"
    "usage: moelightd [serve] [--config FILE] [--set KEY=VALUE]... [--check-config]\n"
    "       moelightd plan    [--config FILE] [--hardware FILE] [--workload NAME] ...\n"
    "       moelightd probe   [--config FILE] [--set KEY=VALUE]... [-o FILE]\n"
    "       moelightd doctor  [--config FILE] [--set KEY=VALUE]... [--json]\n"
    "       moelightd bench   throughput | link | attention | experts [--config FILE] ...\n"
    "       moelightd key\n"
    "       moelightd --version | --help\n"
    "\n"
    "  serve   run the daemon until SIGTERM, SIGINT or the Drain RPC\n"
    "  plan    print what would run, where memory would go and how fast it would be, here or on a\n"
    "          machine that is only described; loads nothing; see plan --help\n"
    "  probe   measure what this machine can do, as YAML; takes under a minute\n"
    "  doctor  check that this machine and the configuration fit together, line by line, with\n"
    "          what to do; starts nothing\n"
    "  key     make an API key, and the hash that stands for it in the file of server.tenants\n"
    "  bench   measure the engine without the RPC layer, as JSON; see bench --help\n"
    "\n"
    "  --config FILE     configuration, default config.yaml\n"
    "  --set KEY=VALUE   overrides a key, for example --set engine.cpu_threads=4\n"
    "  --json            doctor: the same for programs\n"
    "  -o FILE           where probe writes, default stdout\n"
    "  --check-config    read and check the configuration, start nothing\n"
    "\n"
    "The environment overrides keys too: MOELIGHT__SERVER__LISTEN sets server.listen.\n"
    "Exit codes: 0 stopped in good order, 1 failed while running, 2 wrong arguments or\n"
    "configuration.\n";

Environment ReadEnvironment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    environment.push_back(absl::StrSplit(*entry, absl::MaxSplits('=', 1)));
  }
  return environment;
}

int UsageError(const std::string& reason) {
  std::cerr << "moelightd: " << reason << "; see moelightd --help\n";
  return kExitUsage;
}

int Main(const std::vector<std::string>& args) {
  const std::string first = args.empty() ? "" : args[0];
  if (first == "--help" || first == "-h" || first == "help") {
    std::cout << kHelp;
    return 0;
  }
  if (first == "--version") {
    std::cout << "moelightd " << MOELIGHT_VERSION << "\n";
    return 0;
  }
  if (first == "plan") return RunPlan({args.begin() + 1, args.end()}, ReadEnvironment());
  if (first == "bench") return RunBench({args.begin() + 1, args.end()}, ReadEnvironment());
  if (first == "key") return RunKey({args.begin() + 1, args.end()});
  const absl::StatusOr<CommandLine> line = ParseCommandLine(args);
  if (!line.ok()) return UsageError(std::string(line.status().message()));
  if (line->command == "serve") return RunServe(*line, ReadEnvironment(), MOELIGHT_VERSION);
  if (line->command == "probe") return RunProbe(*line, ReadEnvironment(), EngineHardwareProbe());
  if (line->command == "doctor") {
    return RunDoctor(*line, ReadEnvironment(), {Engine::DescribeDevice, Engine::InspectModel});
  }
  return UsageError("unknown command \"" + line->command + "\"");
}

}  // namespace
}  // namespace moelight

int main(int argc, char** argv) { return moelight::Main({argv + 1, argv + argc}); }
