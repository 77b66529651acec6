#include "engine/machine_identity.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <limits>

#include <absl/status/statusor.h>
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_format.h>
#include <sys/resource.h>

#include "engine/base/cpu_placement.h"

namespace moelight {
namespace {

// What follows "<key>\t:" or "<key>:" on the first line that begins so; empty if there is none.
std::string ValueOf(const char* file_name, absl::string_view key) {
  std::ifstream file(file_name);
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    return std::string(absl::StripAsciiWhitespace(absl::string_view(line).substr(colon + 1)));
  }
  return "";
}

bool MayLockAnyMemory() {
  constexpr int kCapIpcLock = 14;  // of <linux/capability.h>
  uint64_t capabilities = 0;
  return absl::SimpleHexAtoi(ValueOf("/proc/self/status", "CapEff"), &capabilities) &&
         (capabilities >> kCapIpcLock & 1) != 0;
}

}  // namespace

std::string CpuModelName() { return ValueOf("/proc/cpuinfo", "model name"); }

int UsableCpus() {
  const absl::StatusOr<std::vector<AllowedCpu>> allowed = AllowedCpus();
  return allowed.ok() ? static_cast<int>(allowed->size()) : 0;
}

int64_t PhysicalMemoryBytes() {
  return std::max(int64_t{0}, int64_t{sysconf(_SC_PHYS_PAGES)}) * sysconf(_SC_PAGESIZE);
}

std::string GpuDriverVersion() { return ValueOf("/proc/driver/nvidia/version", "NVRM version"); }

std::string UtcDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  gmtime_r(&now, &utc);
  return absl::StrFormat("%04d-%02d-%02d", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday);
}

int64_t PinnableBytes() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
      MayLockAnyMemory()) {
    return -1;
  }
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(std::min<uint64_t>(limit.rlim_cur, kMost));
}

std::string HashFacts(const std::vector<std::string>& facts) {
  constexpr uint64_t kFnvOffset = 0xcbf29ce484222325;
  constexpr uint64_t kFnvPrime = 0x100000001b3;
  uint64_t hash = kFnvOffset;
  const auto add = [&hash](char byte) { hash = (hash ^ static_cast<uint8_t>(byte)) * kFnvPrime; };
  for (const std::string& fact : facts) {
    for (const char byte : fact) add(byte);
    add('\n');  // so that what moves from one fact to the next changes the hash
  }
  return absl::StrFormat("%016x", hash);
}

}  // namespace moelight
