#include "server/serve.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/util/json_util.h>
#include <nlohmann/json.hpp>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "server/admin_service.h"
#include "server/config.h"
#include "server/crash_marker.h"
#include "server/daemon.h"
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

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  CHECK(google::protobuf::util::MessageToJsonString(message, &json, options).ok());
  return json;
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
  absl::StatusOr<std::unique_ptr<CrashMarker>> crash_marker =
      absl::FailedPreconditionError("not installed yet");
  DaemonOptions options{*std::move(config),
                        version,
                        logger,
                        Engine::Create,
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

  const std::chrono::seconds grace = stop.WaitForRequest();
  if (grace.count() > 0) {
    (*daemon)->Drain([&stop]() { stop.NotifyDrained(); });
    stop.WaitForDrained(grace);
  }
  (*daemon)->Stop();
  logger.Info("stopped");
  return 0;
}

int RunPlan(const CommandLine& line, const Environment& environment) {
  const absl::StatusOr<Config> config = Load(line, environment);
  if (!config.ok()) {
    std::cerr << config.status().message() << "\n";
    return kExitUsage;
  }
  Logger logger(LogLevel::kWarning, LogFormat::kText);
  const absl::StatusOr<ModelInfo> model = Engine::Describe(config->engine);
  if (!model.ok()) return Fail(logger, "plan_failed", model.status());
  const absl::StatusOr<PlanInfo> plan = Engine::Plan(config->engine);
  if (!plan.ok()) return Fail(logger, "plan_failed", plan.status());
  std::cout << "{\"backend\":" << nlohmann::json(plan->backend)
            << ",\"model\":" << ToJson(ToProto(*model)) << ",\"plan\":" << ToJson(ToProto(*plan))
            << "}\n";
  return 0;
}

}  // namespace moelight
