#include "server/doctor.h"

#include <algorithm>
#include <iostream>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

namespace moelight {

DoctorReport Examine(const Config& config, const Machine& machine) {
  DoctorReport report;
  int counts[] = {0, 0, 0};  // by Verdict
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const DoctorCheck& check : DoctorChecks()) {
    const Finding finding = check.run(config, machine);
    const std::string verdict(VerdictName(finding.verdict));
    report.verdict = std::max(report.verdict, finding.verdict);
    ++counts[static_cast<int>(finding.verdict)];
    absl::StrAppendFormat(&report.text, "%-5s %-15s %s\n", verdict, check.name, finding.found);
    if (!finding.advice.empty()) {
      absl::StrAppendFormat(&report.text, "%-21s > %s\n", "", finding.advice);
    }
    checks.push_back({{"name", std::string(check.name)},
                      {"verdict", verdict},
                      {"found", finding.found},
                      {"advice", finding.advice}});
  }
  absl::StrAppend(&report.text, counts[0], " OK, ", counts[1], " WARN, ", counts[2], " FAIL\n");
  const nlohmann::ordered_json json = {{"verdict", std::string(VerdictName(report.verdict))},
                                       {"checks", std::move(checks)}};
  // Messages may quote file names in any encoding.
  report.json = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return report;
}

int RunDoctor(const CommandLine& line, const Environment& environment, const DoctorEngine& engine) {
  const absl::StatusOr<Config> config = LoadConfig({line.config, environment, line.overrides});
  if (!config.ok()) {
    std::cerr << config.status().message() << "\n";
    return kExitUsage;
  }
  const DoctorReport report = Examine(*config, LookAtMachine(*config, engine));
  std::cout << (line.json ? report.json : report.text) << std::flush;
  return report.verdict == Verdict::kFail || !std::cout.good() ? kExitFailure : 0;
}

}  // namespace moelight
