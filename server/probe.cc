#include "server/probe.h"

#include <filesystem>
#include <iostream>

#include "server/config.h"
#include "server/hardware_file.h"

namespace moelight {
namespace {

int Fail(const absl::Status& status) {
  std::cerr << "moelightd: probe: " << absl::StatusCodeToString(status.code()) << ": "
            << status.message() << "\n";
  return kExitFailure;
}

// Measuring takes a while: what can be found out before is.
bool HasFolder(const std::string& file) {
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  std::error_code error;
  return folder.empty() || std::filesystem::is_directory(folder, error);
}

}  // namespace

int RunProbe(const CommandLine& line, const Environment& environment, const HardwareProbe& probe) {
  const absl::StatusOr<Config> config = LoadConfig({line.config, environment, line.overrides});
  if (!config.ok()) {
    std::cerr << config.status().message() << "\n";
    return kExitUsage;
  }
  if (!HasFolder(line.output)) {
    std::cerr << "moelightd: probe: " << line.output << ": its folder does not exist\n";
    return kExitUsage;
  }
  const absl::StatusOr<HardwareProfile> profile =
      MeasureHardware(config->engine, probe,
                      [](absl::string_view what) { std::cerr << "probe: " << what << std::endl; });
  if (!profile.ok()) return Fail(profile.status());
  if (line.output.empty()) {
    std::cout << HardwareProfileToYaml(*profile) << std::flush;
    return std::cout.good() ? 0 : Fail(absl::UnavailableError("stdout: cannot be written"));
  }
  const absl::Status status = WriteHardwareProfile(line.output, *profile);
  if (!status.ok()) return Fail(status);
  std::cerr << "probe: " << line.output << " is written\n";
  return 0;
}

}  // namespace moelight
