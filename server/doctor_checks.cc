#include "server/doctor_checks.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "server/config_values.h"

namespace moelight {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

// A million rows of 1 KiB and their results are 2 to 3 GB.
constexpr int64_t kTightDiskBytes = 10 * kGiB;
constexpr int64_t kFullDiskBytes = 1 * kGiB;

// Every acknowledgement waits for a commit. A disk of a server takes 0.1 to 5 ms, a network disk up
// to 20; beyond that, small calls feel slow, but nothing is lost.
constexpr double kSlowFsyncMs = 20;

// "46.7 billion".
std::string CountText(int64_t count) {
  return count < 1'000'000'000 ? absl::StrFormat("%.1f million", static_cast<double>(count) / 1e6)
                               : absl::StrFormat("%.1f billion", static_cast<double>(count) / 1e9);
}

// Certificates are renewed a month before their end, or somebody has forgotten it.
constexpr int64_t kSoonDays = 14;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

Finding AddressFinding(const std::string& address, const absl::Status& status, const char* key) {
  if (status.ok()) return {Verdict::kOk, absl::StrCat(address, " can be taken")};
  return {Verdict::kFail, absl::StrCat(address, ": ", status.message()),
          absl::StrCat(
              "see who has it (ss -ltnp), perhaps a moelightd that runs already, or change ", key)};
}

}  // namespace

std::string SizeText(int64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib < 1024 ? absl::StrFormat("%.1f MiB", mib) : absl::StrFormat("%.1f GiB", mib / 1024);
}

absl::string_view VerdictName(Verdict verdict) {
  constexpr absl::string_view kNames[] = {"OK", "WARN", "FAIL"};
  return kNames[static_cast<int>(verdict)];
}

Finding CheckModel(const Config& config, const Machine& machine) {
  const ModelFiles& files = machine.model;
  if (!files.config.ok()) {
    const bool is_unknown = absl::IsUnimplemented(files.config);
    return {Verdict::kFail, Message(files.config),
            is_unknown ? "choose a model of a supported architecture"
                       : absl::StrCat("engine.model ", config.engine.model,
                                      " must be a folder as Hugging Face has them; download it "
                                      "again")};
  }
  const ModelInfo& model = files.model;
  return {Verdict::kOk,
          absl::StrCat(model.name, ", ", model.architecture, ", ", CountText(model.num_parameters),
                       " parameters, ", CountText(model.num_active_parameters), " for one token")};
}

Finding CheckWeights(const Config& config, const Machine& machine) {
  const ModelFiles& files = machine.model;
  if (config.engine.load_format == "dummy") {
    return {Verdict::kWarn, "random weights: engine.load_format is dummy",
            "set engine.load_format: auto, unless this is a benchmark"};
  }
  if (!files.weights.ok()) {
    return {Verdict::kFail, Message(files.weights),
            "download the file again; its size must be what its header says"};
  }
  return {Verdict::kOk, absl::StrCat(files.num_tensors, " tensors, ", SizeText(files.weight_bytes),
                                     ", every file as long as its header says")};
}

Finding CheckTokenizer(const Config& /*config*/, const Machine& machine) {
  const absl::Status& status = machine.model.tokenizer;
  if (status.ok()) return {Verdict::kOk, "tokenizer.json can be read"};
  if (absl::IsNotFound(status)) {
    return {Verdict::kWarn, Message(status),
            "text and chat prompts will be refused: put the model's tokenizer.json there"};
  }
  return {Verdict::kFail, Message(status), "download tokenizer.json again"};
}

Finding CheckChatTemplate(const Config& /*config*/, const Machine& machine) {
  const absl::Status& status = machine.model.chat_template;
  if (status.ok()) return {Verdict::kOk, "chats can be rendered"};
  if (absl::IsNotFound(status)) {
    return {Verdict::kWarn, "the model has no chat template",
            "chat prompts will be refused: send text, or put a chat_template.jinja there"};
  }
  return {Verdict::kFail, Message(status), "correct chat_template.jinja or tokenizer_config.json"};
}

Finding CheckListen(const Config& config, const Machine& machine) {
  return AddressFinding(config.listen, machine.listen, "server.listen");
}

Finding CheckAdminListen(const Config& config, const Machine& machine) {
  if (config.admin_listen.empty()) return {Verdict::kOk, "there is no AdminService"};
  return AddressFinding(config.admin_listen, machine.admin_listen, "server.admin_listen");
}

Finding CheckMetricsListen(const Config& config, const Machine& machine) {
  if (config.metrics_listen.empty()) return {Verdict::kOk, "no metrics are served"};
  return AddressFinding(config.metrics_listen, machine.metrics_listen, "metrics.listen");
}

Finding CheckTls(const Config& config, const Machine& machine) {
  if (config.tls.cert.empty()) return {Verdict::kOk, "no TLS"};
  if (!machine.tls_expires_in.ok()) {
    return {Verdict::kFail, Message(machine.tls_expires_in.status()),
            "server.tls.cert and server.tls.key must be a PEM certificate and its key"};
  }
  const int64_t days = absl::ToInt64Hours(*machine.tls_expires_in) / 24;
  if (*machine.tls_expires_in <= absl::ZeroDuration()) {
    return {Verdict::kFail, absl::StrCat("the certificate expired ", -days, " days ago"),
            "replace it; a running moelightd takes the new files at SIGHUP"};
  }
  const std::string found = absl::StrCat("the certificate expires in ", days, " days");
  if (days >= kSoonDays) return {Verdict::kOk, found};
  return {Verdict::kWarn, found, "replace it; a running moelightd takes the new files at SIGHUP"};
}

Finding CheckAccess(const Config& config, const Machine& /*machine*/) {
  if (!config.tenants_file.empty()) return {Verdict::kOk, "every call needs a key"};
  const absl::StatusOr<HostPort> listen = ParseHostPort(config.listen);
  if (listen.ok() && IsLoopback(*listen)) return {Verdict::kOk, "no keys; this machine only"};
  if (!config.tls.client_ca.empty()) return {Verdict::kOk, "clients show a certificate"};
  return {Verdict::kWarn,
          absl::StrCat("whoever reaches ", config.listen, " may hand in, read and delete jobs"),
          "make keys (moelightd key) and name their file in server.tenants, or set "
          "server.tls.client_ca"};
}

Finding CheckStoreSpace(const Config& config, const Machine& machine) {
  const std::string found =
      absl::StrCat(SizeText(machine.store_free_bytes), " free in ", machine.store_folder);
  if (machine.store_free_bytes >= kTightDiskBytes) return {Verdict::kOk, found};
  return {machine.store_free_bytes < kFullDiskBytes ? Verdict::kFail : Verdict::kWarn, found,
          absl::StrCat("a million rows of 1 KiB take 3 GiB with their results: make room, shorten "
                       "store.retention, or move store.path ",
                       config.store_path)};
}

Finding CheckStoreFsync(const Config& /*config*/, const Machine& machine) {
  if (!machine.store_fsync_ms.ok()) {
    return {Verdict::kFail, Message(machine.store_fsync_ms.status()),
            "store.path must be a folder that this user may write"};
  }
  const std::string found = absl::StrFormat("a write is on disk after %.2f ms in %s",
                                            *machine.store_fsync_ms, machine.store_folder);
  if (machine.store_in_memory) {
    return {Verdict::kWarn, absl::StrCat(found, ", which lies in memory"),
            "jobs are gone after a restart of the machine: put store.path on a disk or volume"};
  }
  if (*machine.store_fsync_ms > kSlowFsyncMs) {
    return {Verdict::kWarn, found, "small calls wait that long: put store.path on a local SSD"};
  }
  return {Verdict::kOk, found};
}

absl::Span<const DoctorCheck> DoctorChecks() {
  static constexpr DoctorCheck kChecks[] = {
      {"driver", CheckDriver},
      {"gpu", CheckGpu},
      {"gpu memory", CheckGpuMemory},
      {"host memory", CheckHostMemory},
      {"memlock", CheckMemlock},
      {"huge pages", CheckHugePages},
      {"numa", CheckNuma},
      {"cpu", CheckCpu},
      {"cgroup memory", CheckCgroupMemory},
      {"cgroup cpu", CheckCgroupCpu},
      {"open files", CheckOpenFiles},
      {"model", CheckModel},
      {"weights", CheckWeights},
      {"tokenizer", CheckTokenizer},
      {"chat template", CheckChatTemplate},
      {"listen", CheckListen},
      {"admin listen", CheckAdminListen},
      {"metrics listen", CheckMetricsListen},
      {"tls", CheckTls},
      {"access", CheckAccess},
      {"store space", CheckStoreSpace},
      {"store fsync", CheckStoreFsync},
  };
  return kChecks;
}

}  // namespace moelight
