#include "server/config_check.h"

#include <unistd.h>

#include <bit>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "server/client_weights.h"
#include "server/config_values.h"
#include "server/tenants.h"

namespace moelight {
namespace {

constexpr uint64_t kMinPageBytes = 1 << 20;

using Report = std::function<void(absl::string_view key, std::string reason)>;

// An address to listen on; reported under `key`. Nothing if it cannot be read.
std::optional<HostPort> CheckAddress(const std::string& text, absl::string_view key,
                                     const Report& report) {
  const absl::StatusOr<HostPort> address = ParseHostPort(text);
  if (address.ok()) return *address;
  report(key, std::string(address.status().message()));
  return std::nullopt;
}

void CheckListen(const Config& config, const Report& report) {
  const struct {
    absl::string_view key;
    const std::string& text;
    bool carries_calls;
  } rows[] = {
      {"server.listen", config.listen, true},
      {"server.admin_listen", config.admin_listen, true},
      {"metrics.listen", config.metrics_listen, false},
  };
  std::vector<std::pair<absl::string_view, HostPort>> taken;
  for (const auto& row : rows) {
    if (row.text.empty() && row.key != "server.listen") continue;
    const std::optional<HostPort> address = CheckAddress(row.text, row.key, report);
    if (!address.has_value()) continue;
    if (row.carries_calls && !IsLoopback(*address) && config.tls.cert.empty() &&
        !config.allow_insecure) {
      report(row.key, absl::StrCat(row.text,
                                   " can be reached from other machines: set server.tls.cert and "
                                   "server.tls.key, or server.allow_insecure: true"));
    }
    for (const auto& [key, other] : taken) {
      if (address->port != 0 && address->port == other.port && address->host == other.host) {
        report(row.key, absl::StrCat(row.text, " is ", key, " too"));
      }
    }
    taken.emplace_back(row.key, *address);
  }
}

void CheckTenants(const Config& config, const Report& report) {
  if (config.tenants_file.empty()) return;
  const absl::Status status = Tenants::Load(config.tenants_file).status();
  if (!status.ok()) report("server.tenants", std::string(status.message()));
}

void CheckTls(const Config& config, const Report& report) {
  const struct {
    absl::string_view key;
    const std::string& file;
    absl::string_view needs;
    const std::string& needed_file;
  } rows[] = {
      {"server.tls.cert", config.tls.cert, "server.tls.key", config.tls.key},
      {"server.tls.key", config.tls.key, "server.tls.cert", config.tls.cert},
      {"server.tls.client_ca", config.tls.client_ca, "server.tls.cert", config.tls.cert},
  };
  for (const auto& row : rows) {
    if (row.file.empty()) continue;
    if (row.needed_file.empty()) {
      report(row.key, absl::StrCat("cannot take effect without ", row.needs));
    }
    std::error_code error;
    if (!std::filesystem::is_regular_file(row.file, error) || access(row.file.c_str(), R_OK) != 0) {
      report(row.key, absl::StrCat("\"", row.file, "\" is not a file that can be read"));
    }
  }
}

void CheckClientWeights(const Config& config, const Report& report) {
  const absl::Status status = ClientWeights::Parse(config.client_weights).status();
  if (!status.ok()) report("server.client_weights", std::string(status.message()));
}

void CheckLimits(const Config& config, const Report& report) {
  const int64_t message_bytes = config.rpc_limits.message_bytes;
  if (config.store_limits.row_bytes > message_bytes) {
    report("server.limits.row_bytes",
           absl::StrCat(FormatSize(config.store_limits.row_bytes),
                        " is more than one message may have, server.limits.message_bytes ",
                        FormatSize(message_bytes)));
  }
  if (config.rpc_limits.append_buffer < message_bytes) {
    report("server.limits.append_buffer",
           absl::StrCat(FormatSize(config.rpc_limits.append_buffer),
                        " does not hold one message of server.limits.message_bytes ",
                        FormatSize(message_bytes)));
  }
  // Where the policy chooses the batch, what does not fit is seen when it has.
  const int64_t max_running = config.engine.max_running_sequences;
  if (max_running == 0) return;
  const int64_t rows_in_flight = RowsInFlight(config, max_running);
  const int64_t room = max_running + config.engine.max_queued_requests;
  if (rows_in_flight < max_running) {
    report("server.limits.rows_in_flight",
           absl::StrCat(rows_in_flight, " rows never fill engine.max_running_sequences ",
                        max_running));
  } else if (rows_in_flight > room) {
    report("server.limits.rows_in_flight",
           absl::StrCat(rows_in_flight,
                        " rows do not fit engine.max_running_sequences and "
                        "engine.max_queued_requests, together ",
                        room));
  }
}

void CheckEngine(const Config& config, const Report& report) {
  const EngineOptions& engine = config.engine;
  std::error_code error;
  if (engine.model.empty()) {
    report("engine.model", "is required: the model folder");
  } else if (!std::filesystem::is_directory(engine.model, error)) {
    report("engine.model", absl::StrCat("\"", engine.model, "\" is not a folder"));
  }
  // Whether there is a GPU for "auto" and "cuda" is seen when the engine starts.
  const bool is_host_only = engine.device != "auto" && engine.device != "cuda";
  if (engine.gpu_memory_bytes != 0 && is_host_only) {
    report("engine.gpu_memory",
           absl::StrCat(FormatSize(engine.gpu_memory_bytes),
                        " cannot take effect: engine.device is ", engine.device));
  }
  if (engine.cpu_isa != "auto" && engine.device == "reference") {
    report("engine.cpu_isa",
           absl::StrCat(engine.cpu_isa, " cannot take effect: engine.device is reference"));
  }
  const uint64_t page_bytes = static_cast<uint64_t>(engine.weight_page_bytes);
  if (page_bytes != 0 && (!std::has_single_bit(page_bytes) || page_bytes < kMinPageBytes)) {
    report("engine.weight_page", absl::StrCat(FormatSize(engine.weight_page_bytes),
                                              " is not a power of two of at least 1MiB"));
  }
  if (engine.weight_ring_percent != 0 && engine.weight_ring_percent < 100) {
    report("engine.weight_ring_percent",
           absl::StrCat(engine.weight_ring_percent, " percent do not hold one layer: 100 to 200"));
  }
  if (engine.workload.max_prompt_tokens < engine.workload.mean_prompt_tokens) {
    report("engine.expected_max_prompt_tokens", absl::StrCat(engine.workload.max_prompt_tokens,
                                                             " is below the mean, "
                                                             "engine.expected_prompt_tokens ",
                                                             engine.workload.mean_prompt_tokens));
  }
  std::error_code profile_error;
  if (!config.hardware_profile.empty() &&
      !std::filesystem::is_regular_file(config.hardware_profile, profile_error)) {
    report("engine.hardware_profile",
           absl::StrCat("\"", config.hardware_profile, "\" is not a file"));
  }
  if (engine.max_step_tokens != 0 && engine.max_step_tokens < engine.max_running_sequences) {
    report("engine.max_step_tokens",
           absl::StrCat(engine.max_step_tokens,
                        " is less than one token for each of engine.max_running_sequences ",
                        engine.max_running_sequences));
  }
}

}  // namespace

void CheckConfig(const Config& config, const Report& report) {
  CheckListen(config, report);
  CheckTls(config, report);
  CheckTenants(config, report);
  CheckClientWeights(config, report);
  CheckLimits(config, report);
  CheckEngine(config, report);
}

}  // namespace moelight
