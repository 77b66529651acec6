// What doctor looks at and what it makes of it: one row per check, one function per row.
//
// Threads: pure functions over a Machine, which tests make up; LookAtMachine() looks at the real
// one.
#ifndef MOELIGHT_SERVER_DOCTOR_CHECKS_H_
#define MOELIGHT_SERVER_DOCTOR_CHECKS_H_

#include <cstdint>
#include <filesystem>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>
#include <absl/types/span.h>

#include "engine/engine.h"
#include "server/config.h"

namespace moelight {

// What the checks know. Files that the kernel writes are read below `root`.
struct Machine {
  std::filesystem::path root = "/";
  absl::StatusOr<DeviceInfo> gpu;  // InvalidArgument: this build has no GPU backend
  ModelFiles model;
  int num_cpus = 0;             // that this process may run on
  absl::Status listen;          // whether the address can be taken
  absl::Status admin_listen;    // the same
  absl::Status metrics_listen;  // the same
  // When the certificate expires, counted from now; what is wrong with the files of server.tls.
  absl::StatusOr<absl::Duration> tls_expires_in;
  std::string store_folder;  // store.path, or the folder that it would be made in
  int64_t store_free_bytes = 0;
  bool store_in_memory = false;           // its file system is gone after a restart
  absl::StatusOr<double> store_fsync_ms;  // median of a few; what went wrong if one failed
};

enum class Verdict : uint8_t { kOk, kWarn, kFail };
absl::string_view VerdictName(Verdict verdict);  // "OK", "WARN", "FAIL"

struct Finding {
  Verdict verdict = Verdict::kOk;
  std::string found;
  std::string advice = {};  // what to do; empty when OK
};

// "87.0 GiB", or in MiB below one.
std::string SizeText(int64_t bytes);

struct DoctorCheck {
  absl::string_view name;
  Finding (*run)(const Config& config, const Machine& machine);
};

absl::Span<const DoctorCheck> DoctorChecks();

// --- The rows: the machine (doctor_machine_checks.cc) ---
Finding CheckDriver(const Config& config, const Machine& machine);
Finding CheckGpu(const Config& config, const Machine& machine);
Finding CheckGpuMemory(const Config& config, const Machine& machine);
Finding CheckHostMemory(const Config& config, const Machine& machine);
Finding CheckMemlock(const Config& config, const Machine& machine);
Finding CheckHugePages(const Config& config, const Machine& machine);
Finding CheckNuma(const Config& config, const Machine& machine);
Finding CheckCpu(const Config& config, const Machine& machine);
Finding CheckCgroupMemory(const Config& config, const Machine& machine);
Finding CheckCgroupCpu(const Config& config, const Machine& machine);
Finding CheckOpenFiles(const Config& config, const Machine& machine);
// --- The model and the service (doctor_checks.cc) ---
Finding CheckModel(const Config& config, const Machine& machine);
Finding CheckWeights(const Config& config, const Machine& machine);
Finding CheckTokenizer(const Config& config, const Machine& machine);
Finding CheckChatTemplate(const Config& config, const Machine& machine);
Finding CheckListen(const Config& config, const Machine& machine);
Finding CheckAdminListen(const Config& config, const Machine& machine);
Finding CheckMetricsListen(const Config& config, const Machine& machine);
Finding CheckTls(const Config& config, const Machine& machine);
Finding CheckAccess(const Config& config, const Machine& machine);
Finding CheckStoreSpace(const Config& config, const Machine& machine);
Finding CheckStoreFsync(const Config& config, const Machine& machine);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_DOCTOR_CHECKS_H_
