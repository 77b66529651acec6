#include "server/hardware_cache.h"

#include <chrono>
#include <filesystem>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/hardware_file.h"

namespace moelight {
namespace {

// A fingerprint is text that others chose, and a file name must not lead elsewhere. Two that become
// the same name are told apart by the fingerprint in the file.
std::string FileName(const std::string& fingerprint) {
  constexpr size_t kMaxLength = 64;
  std::string safe = fingerprint.substr(0, kMaxLength);
  for (char& c : safe) {
    if (!absl::ascii_isalnum(c) && c != '-') c = '_';
  }
  return absl::StrCat("hardware-", safe, ".yaml");
}

absl::StatusOr<HardwareProfile> ReadCached(const std::string& file,
                                           const std::string& fingerprint) {
  ASSIGN_OR_RETURN(HardwareProfile profile, ReadHardwareProfile(file));
  if (profile.fingerprint == fingerprint) return profile;
  return absl::FailedPreconditionError(
      absl::StrCat(file, ": fingerprint: of another machine: ", profile.fingerprint));
}

absl::Status WriteCached(const std::string& folder, const std::string& file,
                         const HardwareProfile& profile) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::UnavailableError(absl::StrCat(folder, ": ", error.message()));
  return WriteHardwareProfile(file, profile);
}

}  // namespace

absl::StatusOr<HardwareProfile> MeasureHardware(const EngineOptions& options,
                                                const HardwareProbe& probe,
                                                const HardwareProbe::Progress& on_progress) {
  ASSIGN_OR_RETURN(const std::string fingerprint, probe.fingerprint(options));
  ASSIGN_OR_RETURN(HardwareProfile profile, probe.measure(options, on_progress));
  profile.fingerprint = fingerprint;
  const absl::Status status = ValidateHardwareProfile(profile);
  if (!status.ok()) {
    return absl::InternalError(absl::StrCat("measured nonsense: ", status.message()));
  }
  return profile;
}

absl::StatusOr<HardwareProfile> LoadOrProbe(const std::string& folder, const EngineOptions& options,
                                            Logger& logger, const HardwareProbe& probe) {
  ASSIGN_OR_RETURN(const std::string fingerprint, probe.fingerprint(options));
  const std::string file = (std::filesystem::path(folder) / FileName(fingerprint)).string();
  std::error_code error;
  if (std::filesystem::exists(file, error)) {
    absl::StatusOr<HardwareProfile> cached = ReadCached(file, fingerprint);
    if (cached.ok()) {
      logger.Info("hardware_profile_read", {{"file", file}});
      return cached;
    }
    logger.Warning("hardware_profile_unusable", {{"reason", cached.status().message()}});
  }

  logger.Info("hardware_probe_started", {{"reason", "no profile of this machine yet"}});
  const auto begin = std::chrono::steady_clock::now();
  const absl::StatusOr<HardwareProfile> profile =
      MeasureHardware(options, probe, [&logger](absl::string_view what) {
        logger.Debug("hardware_probe", {{"measures", what}});
      });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (!profile.ok()) return profile.status();
  logger.Info("hardware_probe_ended", {{"seconds", seconds.count()}, {"file", file}});
  if (const absl::Status status = WriteCached(folder, file, *profile); !status.ok()) {
    logger.Warning("hardware_profile_not_kept", {{"reason", status.message()}});
  }
  return profile;
}

}  // namespace moelight
