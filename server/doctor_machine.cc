// LookAtMachine(): what doctor asks the system itself.
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include <absl/cleanup/cleanup.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "engine/base/cpu_placement.h"
#include "engine/base/status_macros.h"
#include "server/config_values.h"
#include "server/doctor.h"
#include "server/tls_certificates.h"

namespace moelight {
namespace {

namespace fs = std::filesystem;

// Enough for a median; on a disk so slow that they take longer than this, the first ones tell.
constexpr int kNumFsyncs = 9;
constexpr std::chrono::seconds kFsyncLimit{2};
constexpr size_t kFsyncBytes = 4096;

absl::Status SystemError(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// Takes the address as the daemon would, and gives it back at once.
absl::Status TryListen(const std::string& address) {
  if (address.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const HostPort host_port, ParseHostPort(address));
  if (host_port.port == 0) return absl::OkStatus();  // a free one
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(host_port.host.c_str(), std::to_string(host_port.port).c_str(), &hints, &found);
  if (error != 0) return absl::UnavailableError(gai_strerror(error));
  const absl::Cleanup free_found = [found]() { freeaddrinfo(found); };
  const int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
  if (fd < 0) return SystemError("no socket");
  const absl::Cleanup close_fd = [fd]() { close(fd); };
  // Connections of a daemon that has ended must not count as somebody who listens.
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 1) != 0) {
    return SystemError("cannot be taken");
  }
  return absl::OkStatus();
}

// The folder, or the nearest one above it that exists.
fs::path ExistingFolder(const std::string& folder) {
  std::error_code error;
  fs::path path = fs::absolute(folder, error);
  while (path.has_relative_path() && !fs::is_directory(path, error)) path = path.parent_path();
  return path;
}

// Median time in ms until 4 KiB are on disk. The file has no name, so that nothing can stay.
absl::StatusOr<double> MeasureFsync(const fs::path& folder) {
  std::string name = (folder / ".moelight-doctor-XXXXXX").string();
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) return SystemError(folder.string());
  const absl::Cleanup close_fd = [fd]() { close(fd); };
  unlink(name.c_str());
  const std::string block(kFsyncBytes, 'x');
  std::vector<double> times_ms;
  const auto start = std::chrono::steady_clock::now();
  while (times_ms.size() < kNumFsyncs && std::chrono::steady_clock::now() - start < kFsyncLimit) {
    const auto begin = std::chrono::steady_clock::now();
    const off_t offset = static_cast<off_t>(times_ms.size() * kFsyncBytes);
    if (pwrite(fd, block.data(), block.size(), offset) != static_cast<ssize_t>(block.size()) ||
        fsync(fd) != 0) {
      return SystemError(folder.string());
    }
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - begin;
    times_ms.push_back(taken.count());
  }
  const auto middle = times_ms.begin() + times_ms.size() / 2;
  std::nth_element(times_ms.begin(), middle, times_ms.end());
  return *middle;
}

absl::StatusOr<absl::Duration> TlsExpiresIn(const TlsOptions& tls) {
  if (tls.cert.empty()) return absl::InfiniteDuration();
  ASSIGN_OR_RETURN(const TlsMaterial material, LoadTls(tls));
  return material.expires - absl::Now();
}

bool LiesInMemory(const fs::path& folder) {
  constexpr int64_t kTmpfs = 0x01021994;  // of <linux/magic.h>
  constexpr int64_t kRamfs = 0x858458f6;
  struct statfs info = {};
  if (statfs(folder.c_str(), &info) != 0) return false;
  return info.f_type == kTmpfs || info.f_type == kRamfs;
}

}  // namespace

Machine LookAtMachine(const Config& config, const DoctorEngine& engine) {
  Machine machine;
  EngineOptions gpu_options = config.engine;
  gpu_options.device = "cuda";
  machine.gpu = engine.describe_device(gpu_options);
  machine.model = engine.inspect_model(config.engine);
  const absl::StatusOr<std::vector<AllowedCpu>> cpus = AllowedCpus();
  machine.num_cpus = cpus.ok() ? static_cast<int>(cpus->size()) : 1;
  machine.listen = TryListen(config.listen);
  machine.admin_listen = TryListen(config.admin_listen);
  machine.metrics_listen = TryListen(config.metrics_listen);
  machine.tls_expires_in = TlsExpiresIn(config.tls);
  const fs::path folder = ExistingFolder(config.store_path);
  machine.store_folder = folder.string();
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  machine.store_free_bytes = error ? 0 : static_cast<int64_t>(space.available);
  machine.store_in_memory = LiesInMemory(folder);
  machine.store_fsync_ms = MeasureFsync(folder);
  return machine;
}

}  // namespace moelight
