#include "engine/hardware_probe.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/backend/cpu/isa.h"
#include "engine/base/status_macros.h"
#include "engine/cpu_options.h"
#include "engine/machine_identity.h"

namespace moelight {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

absl::StatusOr<LinkProfile> MeasureLinkProfile(
    Backend& gpu, const LinkProbeSpec& spec,
    const std::function<void(absl::string_view)>& on_progress) {
  WidestSpread widest;
  ASSIGN_OR_RETURN(const LinkRates rates, MeasureLink(gpu, spec, &widest));
  // Of hundreds of copies one is always late; how late says nothing of the median.
  ASSIGN_OR_RETURN(const Spread latency, MeasureCopyLatency(gpu));
  LinkProfile link;
  for (const LinkRates::Row& row : rates.rows) {
    const double copy_bytes = static_cast<double>(row.copy_bytes);
    link.h2d_bytes_per_s.points.push_back({copy_bytes, row.h2d_bytes_per_s});
    link.d2h_bytes_per_s.points.push_back({copy_bytes, row.d2h_bytes_per_s});
    link.both_bytes_per_s = row.both_bytes_per_s;  // of the largest at last
  }
  link.latency_us = latency.median * 1e6;
  link.spread = widest.relative();
  if (on_progress) {
    on_progress(
        absl::StrFormat("link: %.1f GB/s to the device, %.1f to the host, %.1f both ways, %.1f us "
                        "for a small copy; "
                        "%s",
                        link.h2d_bytes_per_s.points.back().rate * 1e-9,
                        link.d2h_bytes_per_s.points.back().rate * 1e-9,
                        link.both_bytes_per_s * 1e-9, link.latency_us, widest.ToText()));
  }
  return link;
}

// Of one thread: this one only tells the device's kind, or has no use for threads of the host.
absl::StatusOr<std::unique_ptr<Backend>> CreateProbedDevice(const EngineOptions& options) {
  return CreateBackend(options.device, {.num_threads = 1, .isa = ""});
}

}  // namespace

absl::StatusOr<HardwareProfile> MeasureHardware(
    const EngineOptions& options, const HardwareProbeSpec& spec, Backend& device,
    const std::function<void(absl::string_view)>& on_progress) {
  Backend* const gpu = device.has_device_memory() ? &device : nullptr;
  HardwareProfile profile;
  profile.source = absl::StrCat("probed ", UtcDate());
  ASSIGN_OR_RETURN(profile.fingerprint, FingerprintOf(options, device));
  if (gpu != nullptr) {
    // First, while all of its memory is free.
    ASSIGN_OR_RETURN(profile.gpu, MeasureGpu(*gpu, spec.gpu, on_progress));
    ASSIGN_OR_RETURN(profile.link, MeasureLinkProfile(*gpu, spec.link, on_progress));
  }
  ASSIGN_OR_RETURN(profile.host, MeasureHost(options, spec.host, gpu, on_progress));
  profile.name = profile.host.name;
  if (gpu != nullptr) absl::StrAppend(&profile.name, ", ", profile.gpu.name);
  RETURN_IF_ERROR(ValidateHardwareProfile(profile));
  return profile;
}

absl::StatusOr<std::string> FingerprintOf(const EngineOptions& options, const Backend& device) {
  ASSIGN_OR_RETURN(const BackendOptions cpu,
                   CpuBackendOptions(options, /*why_not_pinned=*/nullptr));
  ASSIGN_OR_RETURN(const CpuIsa* const isa, ChooseCpuIsa(cpu.isa));
  const int64_t memory_gib = (PhysicalMemoryBytes() + kGiB / 2) / kGiB;
  std::vector<std::string> facts = {
      CpuModelName(), absl::StrCat(UsableCpus(), " CPUs"),
      absl::StrCat(cpu.num_threads, cpu.pin_threads ? " pinned threads" : " threads"),
      std::string(isa->name), absl::StrCat(memory_gib, " GiB")};
  if (device.has_device_memory()) {
    facts.push_back(device.description());
    facts.push_back(GpuDriverVersion());
  }
  return HashFacts(facts);
}

absl::StatusOr<HardwareProfile> Engine::ProbeHardware(
    const EngineOptions& options, const std::function<void(absl::string_view)>& on_progress) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Backend> device, CreateProbedDevice(options));
  HardwareProbeSpec spec;
  spec.link.gpu_memory_bytes = options.gpu_memory_bytes;
  if (options.gpu_memory_bytes > 0) {
    spec.gpu.memory_bytes = std::min(spec.gpu.memory_bytes, options.gpu_memory_bytes);
  }
  return MeasureHardware(options, spec, *device, on_progress);
}

absl::StatusOr<bool> Engine::HasDeviceMemory(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Backend> device, CreateProbedDevice(options));
  return device->has_device_memory();
}

absl::StatusOr<DeviceInfo> Engine::DescribeDevice(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Backend> device, CreateProbedDevice(options));
  return DeviceInfo{device->description(), device->has_device_memory(),
                    device->free_device_bytes()};
}

absl::StatusOr<std::string> Engine::HardwareFingerprint(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Backend> device, CreateProbedDevice(options));
  return FingerprintOf(options, *device);
}

}  // namespace moelight
