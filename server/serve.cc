#include "server/serve.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include <google/protobuf/stubs/logging.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "server/config.h"
#include "server/crash_marker.h"
#include "server/daemon.h"
#include "server/hardware.h"
#include "server/stop_signal.h"

namespace moelight {
namespace {

// The promise is five seconds from the signal to the end of the process.
constexpr std::chrono::milliseconds kStopLimit{4500};

absl::StatusOr<Config> Load(const CommandLine& line, const Environment& environment) {
  return LoadConfig({line.config, environment, line.overrides});
}

// Levels and formats were checked with the rest of the configuration.
template <typename T>
T Checked(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status().ToString();
  return *value;
}

int Fail(Logger& logger, const char* event, const absl::Status& status) {
  logger.Error(event,
               {{"code", absl::StatusCodeToString(status.code())}, {"reason", status.message()}});
  return kExitFailure;
}

// The engine for the machine as it was probed, or is now.
absl::StatusOr<std::unique_ptr<Engine>> CreateEngine(const Config& config,
                                                     const EngineOptions& engine_options,
                                                     Logger& logger, EngineObserver* observer) {
  EngineOptions options = engine_options;
  ASSIGN_OR_RETURN(options.hardware, HardwareFor(config, logger));
  return Engine::Create(options, logger, observer);
}

}  // namespace

int RunServe(const CommandLine& line, const Environment& environment, const std::string& version) {
  absl::StatusOr<Config> config = Load(line, environment);
  if (!config.ok()) {
    std::cerr << config.status().message() << "\n";
    return kExitUsage;
  }
  if (line.check_config) {
    std::cout << line.config << ": OK\n";
    return 0;
  }
  Logger logger(Checked(ParseLogLevel(config->log_level)),
                Checked(ParseLogFormat(config->log_format)));

  // What a client sends must not write to our log past the logger: protobuf would report every text
  // that is not UTF-8.
  google::protobuf::SetLogHandler(nullptr);

  // Loading a model cannot be interrupted. Nothing is lost by leaving it: what was acknowledged is
  // on disk.
  std::atomic<bool> loading = true;
  StopSignal stop(kStopLimit, logger, [&loading]() {
    if (loading) _exit(0);
  });
  const std::string store_path = config->store_path;
  const Config config_for_hardware = *config;
  absl::StatusOr<std::unique_ptr<CrashMarker>> crash_marker =
      absl::FailedPreconditionError("not installed yet");
  DaemonOptions options{*std::move(config),
                        version,
                        logger,
                        [&config_for_hardware](const EngineOptions& engine_options,
                                               Logger& engine_logger, EngineObserver* observer) {
                          return CreateEngine(config_for_hardware, engine_options, engine_logger,
                                              observer);
                        },
                        [&stop](std::chrono::seconds grace) { stop.RequestDrain(grace); },
                        [&logger](const absl::Status& status) {
                          // Whatever runs on now could not be kept. The next start finds exactly
                          // what was acknowledged.
                          _exit(Fail(logger, "store_failed", status));
                        },
                        [&logger, &crash_marker](const absl::Status& status) {
                          // A row may have caused it, so it counts as a crash.
                          (*crash_marker)->Write();
                          _exit(Fail(logger, "device_failed", status));
                        }};
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(std::move(options));
  if (!daemon.ok()) return Fail(logger, "start_failed", daemon.status());
  // After the store was opened, which reads what the last process left, and before any row runs.
  crash_marker = CrashMarker::Install(store_path);
  if (!crash_marker.ok()) return Fail(logger, "start_failed", crash_marker.status());
  if (absl::Status status = (*daemon)->LoadModel(); !status.ok()) {
    return Fail(logger, "load_failed", status);
  }
  loading = false;

  std::optional<std::chrono::seconds> grace;
  while (!(grace = stop.WaitForRequest()).has_value()) {
    (*daemon)->Reload(Load(line, environment));  // from where it came
  }
  if (grace->count() > 0) {
    (*daemon)->Drain([&stop]() { stop.NotifyDrained(); });
    stop.WaitForDrained(*grace);
  }
  (*daemon)->Stop();
  logger.Info("stopped");
  return 0;
}

}  // namespace moelight
