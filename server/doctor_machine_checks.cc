// The rows of doctor about GPU, memory, CPU and the limits that the system sets.
#include <algorithm>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <vector>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>

#include "server/config_values.h"
#include "server/doctor_checks.h"

namespace moelight {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// The first driver that runs what CUDA 13 builds.
constexpr int kMinDriverMajor = 580;
// Below this even the planner finds no batch worth running for the models that this is made for.
constexpr int64_t kLittleGpuBytes = 4 * kGiB;

// Empty if there is no such file.
std::string Read(const Machine& machine, const std::string& file) {
  std::ifstream stream(machine.root / file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// What follows `key` and a colon or blanks, on the first line that begins with it; empty: nothing.
std::string ValueOf(const std::string& text, absl::string_view key) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, key)) continue;
    line = absl::StripLeadingAsciiWhitespace(line);
    absl::ConsumePrefix(&line, ":");
    return std::string(absl::StripAsciiWhitespace(line));
  }
  return "";
}

// "MemAvailable:  1024 kB" in bytes.
std::optional<int64_t> MemInfoBytes(const Machine& machine, absl::string_view key) {
  int64_t kib = 0;
  const std::string value = ValueOf(Read(machine, "proc/meminfo"), key);
  if (!absl::SimpleAtoi(absl::StripSuffix(value, " kB"), &kib)) return std::nullopt;
  return kib << 10;
}

// A limit of a row of /proc/self/limits: the soft one is word 0, the hard one 1. Nothing if it is
// not there.
std::optional<int64_t> LimitOf(const Machine& machine, absl::string_view row, size_t word) {
  const std::string values = ValueOf(Read(machine, "proc/self/limits"), row);
  const std::vector<std::string> words = absl::StrSplit(values, ' ', absl::SkipEmpty());
  int64_t limit = 0;
  if (words.size() <= word) return std::nullopt;
  if (words[word] == "unlimited") return kNoLimit;
  if (!absl::SimpleAtoi(words[word], &limit)) return std::nullopt;
  return limit;
}
std::optional<int64_t> SoftLimit(const Machine& machine, absl::string_view row) {
  return LimitOf(machine, row, 0);
}
// The daemon raises the soft limit of open files to it.
std::optional<int64_t> HardLimit(const Machine& machine, absl::string_view row) {
  return LimitOf(machine, row, 1);
}

// A file of this process's cgroup and of those around it, the innermost first. In a container its
// own is usually the root of what it sees.
std::vector<std::string> CgroupFiles(const Machine& machine, const std::string& name) {
  std::vector<std::string> values;
  std::filesystem::path folder = ValueOf(Read(machine, "proc/self/cgroup"), "0:");
  folder = std::filesystem::path("sys/fs/cgroup") / folder.relative_path();
  while (!folder.empty() && folder != "sys/fs") {
    const std::string text = Read(machine, (folder / name).string());
    if (!text.empty()) values.emplace_back(absl::StripAsciiWhitespace(text));
    folder = folder.has_filename() ? folder.parent_path() : folder.parent_path().parent_path();
  }
  return values;
}

bool WantsGpu(const Config& config) {
  return config.engine.device == "auto" || config.engine.device == "cuda";
}
bool NeedsGpu(const Config& config) { return config.engine.device == "cuda"; }
bool HasGpu(const Machine& machine) { return machine.gpu.ok() && machine.gpu->has_own_memory; }

std::string DriverVersion(const Machine& machine) {
  return ValueOf(Read(machine, "proc/driver/nvidia/version"), "NVRM version");
}

// "NVIDIA UNIX x86_64 Kernel Module  580.65.06  ..." -> 580; 0: there is none in it.
int DriverMajor(const std::string& version) {
  for (const absl::string_view word : absl::StrSplit(version, ' ')) {
    int major = 0;
    if (absl::StrContains(word, '.') &&
        absl::SimpleAtoi(*absl::StrSplit(word, '.').begin(), &major))
      return major;
  }
  return 0;
}

Finding NoGpuWanted(const Config& config) {
  return {Verdict::kOk, absl::StrCat("not needed: engine.device is ", config.engine.device)};
}

// Bytes of host memory that the engine will take.
int64_t HostMemoryWanted(const Config& config, const Machine& machine) {
  if (config.engine.host_memory_bytes > 0) return config.engine.host_memory_bytes;
  return MemInfoBytes(machine, "MemAvailable").value_or(0) / 2;
}

bool MayLockAnyMemory(const Machine& machine) {
  constexpr int kCapIpcLock = 14;  // of <linux/capability.h>
  uint64_t capabilities = 0;
  return absl::SimpleHexAtoi(ValueOf(Read(machine, "proc/self/status"), "CapEff"), &capabilities) &&
         (capabilities >> kCapIpcLock & 1) != 0;
}

}  // namespace

Finding CheckDriver(const Config& config, const Machine& machine) {
  if (!WantsGpu(config)) return NoGpuWanted(config);
  const std::string version = DriverVersion(machine);
  if (version.empty()) {
    return {NeedsGpu(config) ? Verdict::kFail : Verdict::kWarn, "no NVIDIA driver is loaded",
            "install the driver (nvidia-smi must work); in a container, run it with --gpus all; "
            "without a GPU, set engine.device: cpu"};
  }
  if (DriverMajor(version) < kMinDriverMajor) {
    return {Verdict::kWarn, version,
            absl::StrCat("CUDA 13 needs driver ", kMinDriverMajor, " or newer: update it")};
  }
  return {Verdict::kOk, version};
}

Finding CheckGpu(const Config& config, const Machine& machine) {
  if (!WantsGpu(config)) return NoGpuWanted(config);
  if (HasGpu(machine)) return {Verdict::kOk, machine.gpu->description};
  const bool is_missed = NeedsGpu(config) || !DriverVersion(machine).empty();
  const Verdict verdict = NeedsGpu(config) ? Verdict::kFail : Verdict::kWarn;
  if (machine.gpu.ok() || absl::IsInvalidArgument(machine.gpu.status())) {
    if (!is_missed) return {Verdict::kOk, "no GPU backend built and no driver: the CPU computes"};
    return {verdict, "no GPU backend built",
            "build where a CUDA toolkit is (-DMOELIGHT_CUDA=ON), or take the CUDA image"};
  }
  return {verdict, std::string(machine.gpu.status().message()),
          "the GPU must be visible (nvidia-smi -L) and of a supported compute capability; without "
          "it, set engine.device: cpu"};
}

Finding CheckGpuMemory(const Config& config, const Machine& machine) {
  if (!WantsGpu(config)) return NoGpuWanted(config);
  if (!HasGpu(machine)) return {Verdict::kOk, "no GPU in use"};
  const int64_t free_bytes = machine.gpu->free_bytes;
  const std::string found = absl::StrCat(SizeText(free_bytes), " free");
  if (config.engine.gpu_memory_bytes > free_bytes) {
    return {Verdict::kFail,
            absl::StrCat(found, ", engine.gpu_memory wants ",
                         FormatSize(config.engine.gpu_memory_bytes)),
            "end what else uses the GPU (nvidia-smi), or lower engine.gpu_memory"};
  }
  if (free_bytes < kLittleGpuBytes) {
    return {Verdict::kWarn, found, "see what else uses the GPU: nvidia-smi"};
  }
  return {Verdict::kOk, found};
}

Finding CheckHostMemory(const Config& config, const Machine& machine) {
  const std::optional<int64_t> available = MemInfoBytes(machine, "MemAvailable");
  if (!available.has_value()) {
    return {Verdict::kWarn, "the system does not tell what is free", "set engine.host_memory"};
  }
  const int64_t wanted = HostMemoryWanted(config, machine);
  const std::string found =
      absl::StrCat(SizeText(*available), " free, the engine takes up to ", SizeText(wanted));
  if (wanted > *available) {
    return {Verdict::kFail, found, "lower engine.host_memory, or end what else uses the memory"};
  }
  return {Verdict::kOk, found};
}

Finding CheckMemlock(const Config& config, const Machine& machine) {
  if (!WantsGpu(config)) return NoGpuWanted(config);
  if (!HasGpu(machine) && !NeedsGpu(config)) return {Verdict::kOk, "not needed without a GPU"};
  if (MayLockAnyMemory(machine)) return {Verdict::kOk, "no limit: CAP_IPC_LOCK"};
  const std::optional<int64_t> limit = SoftLimit(machine, "Max locked memory");
  if (limit == kNoLimit) return {Verdict::kOk, "no limit"};
  const int64_t wanted = HostMemoryWanted(config, machine);
  if (limit.has_value() && *limit >= wanted) {
    return {Verdict::kOk, absl::StrCat(SizeText(*limit), " may be locked")};
  }
  return {Verdict::kWarn,
          absl::StrCat(FormatSize(limit.value_or(0)), " may be locked, the engine pins up to ",
                       SizeText(wanted), ": weights would go to the GPU at a fraction of the rate"),
          "ulimit -l unlimited; LimitMEMLOCK=infinity in the systemd unit; docker run --ulimit "
          "memlock=-1"};
}

Finding CheckHugePages(const Config& /*config*/, const Machine& machine) {
  const std::string modes = Read(machine, "sys/kernel/mm/transparent_hugepage/enabled");
  for (const char* mode : {"[always]", "[madvise]"}) {
    if (absl::StrContains(modes, mode)) {
      return {Verdict::kOk,
              absl::StrCat("transparent huge pages: ", absl::StripAsciiWhitespace(modes))};
    }
  }
  return {Verdict::kWarn, "no transparent huge pages: the CPU walks page tables more often",
          "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (on the host)"};
}

Finding CheckNuma(const Config& /*config*/, const Machine& machine) {
  int num_nodes = 0;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(machine.root / "sys/devices/system/node", error)) {
    int node = 0;
    const std::string name = entry.path().filename().string();
    absl::string_view number = name;
    if (absl::ConsumePrefix(&number, "node") && absl::SimpleAtoi(number, &node)) ++num_nodes;
  }
  if (num_nodes <= 1) return {Verdict::kOk, "one node"};
  return {Verdict::kWarn, absl::StrCat(num_nodes, " nodes: memory of another is slower"),
          "run moelightd on the node of its GPU (nvidia-smi topo -m): numactl --cpunodebind=N "
          "--membind=N, where its memory suffices"};
}

Finding CheckCpu(const Config& config, const Machine& machine) {
  // Flags as the kernel names them, and the row of engine.cpu_isa that needs them beside those of
  // the rows above.
  const struct {
    const char* isa;
    std::vector<std::string> flags;
  } rows[] = {{"avx2", {"avx2", "fma", "f16c"}},
              {"avx512", {"avx512f", "avx512bw", "avx512dq", "avx512vl"}},
              {"avx512_bf16", {"avx512_bf16", "avx512_vnni"}},
              {"amx_bf16", {"amx_tile", "amx_bf16"}}};
  const std::string info = Read(machine, "proc/cpuinfo");
  const std::set<std::string> flags = absl::StrSplit(ValueOf(info, "flags"), ' ');
  std::vector<std::string> isas;
  for (const auto& row : rows) {
    if (!std::all_of(row.flags.begin(), row.flags.end(),
                     [&flags](const std::string& flag) { return flags.contains(flag); })) {
      break;
    }
    isas.push_back(row.isa);
  }
  const std::string found =
      absl::StrCat(ValueOf(info, "model name"), ", ", machine.num_cpus,
                   " CPUs: ", isas.empty() ? "no AVX2" : absl::StrJoin(isas, ", "));
  if (config.engine.device == "reference") return {Verdict::kOk, found};
  if (isas.empty()) return {Verdict::kFail, found, "the kernels need AVX2, FMA and F16C"};
  const std::string& wanted = config.engine.cpu_isa;
  if (wanted != "auto" && std::find(isas.begin(), isas.end(), wanted) == isas.end()) {
    return {Verdict::kFail, absl::StrCat(found, ", engine.cpu_isa wants ", wanted),
            "set engine.cpu_isa: auto"};
  }
  return {Verdict::kOk, found};
}

Finding CheckCgroupMemory(const Config& config, const Machine& machine) {
  int64_t limit = kNoLimit;
  for (const std::string& value : CgroupFiles(machine, "memory.max")) {
    int64_t bytes = 0;
    if (absl::SimpleAtoi(value, &bytes)) limit = std::min(limit, bytes);
  }
  if (limit == kNoLimit) return {Verdict::kOk, "no limit"};
  const std::string found = absl::StrCat("at most ", SizeText(limit));
  if (config.engine.host_memory_bytes >= limit) {
    return {Verdict::kFail,
            absl::StrCat(found, ", engine.host_memory is ",
                         FormatSize(config.engine.host_memory_bytes)),
            "the kernel would end the process: raise the container's memory limit (docker "
            "--memory, systemd MemoryMax) or lower engine.host_memory"};
  }
  return {Verdict::kOk, found};
}

Finding CheckCgroupCpu(const Config& config, const Machine& machine) {
  double cpus = machine.num_cpus;
  bool is_limited = false;
  for (const std::string& value : CgroupFiles(machine, "cpu.max")) {
    double quota_us = 0;
    double period_us = 0;
    const std::vector<std::string> words = absl::StrSplit(value, ' ');
    if (words.size() == 2 && absl::SimpleAtod(words[0], &quota_us) &&
        absl::SimpleAtod(words[1], &period_us) && period_us > 0) {
      is_limited = true;
      cpus = std::min(cpus, quota_us / period_us);
    }
  }
  if (!is_limited) return {Verdict::kOk, "no limit"};
  const int threads =
      config.engine.cpu_threads > 0 ? config.engine.cpu_threads : std::max(1, machine.num_cpus - 1);
  const std::string found = absl::StrFormat("%.1f CPUs of time, %d compute threads", cpus, threads);
  if (threads <= cpus) return {Verdict::kOk, found};
  return {Verdict::kWarn, found,
          absl::StrCat("threads would be stopped in the middle of a step: set engine.cpu_threads: ",
                       std::max(1, static_cast<int>(cpus)),
                       ", or give whole CPUs (docker --cpuset-cpus)")};
}

Finding CheckOpenFiles(const Config& config, const Machine& machine) {
  const std::optional<int64_t> limit = HardLimit(machine, "Max open files");
  if (!limit.has_value()) {
    return {Verdict::kWarn, "the system does not tell the limit", "see ulimit -Hn"};
  }
  const int64_t needed = DescriptorsNeeded(config);
  const std::string may =
      *limit == kNoLimit ? "any number may be open" : absl::StrCat(*limit, " may be open");
  const std::string found = absl::StrCat(
      may, ", server.limits.connections: ", config.rpc_limits.connections, " need ", needed);
  if (*limit >= needed) return {Verdict::kOk, found};
  return {Verdict::kFail, found,
          "raise the hard limit (ulimit -Hn; LimitNOFILE=65536; docker --ulimit nofile=65536) or "
          "lower server.limits.connections"};
}

}  // namespace moelight
