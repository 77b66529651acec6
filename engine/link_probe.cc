#include "engine/link_probe.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include "engine/backend/byte_view.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/memory/arena.h"

namespace moelight {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kKiB = int64_t{1} << 10;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

// From where issuing a copy costs as much as the copy to where it costs nothing.
constexpr int64_t kCopySizes[] = {256 * kKiB, kMiB, 4 * kMiB, 16 * kMiB, 64 * kMiB, kGiB};
// From which the number of copies of a turn is worked out; 5 ms at 50 GB/s.
constexpr int64_t kTrialBytes = 256 * kMiB;
constexpr int kMeasureTurns = 5;

constexpr int64_t kLatencyBytes = 4 * kKiB;
constexpr int kLatencyTurns = 501;
// The first ones pay for what is set up on first use.
constexpr int kLatencyWarmTurns = 50;

// Making and pinning pages is the system's work; more threads than this only wait for each other.
constexpr int kPinThreads = 4;

// ProbeHostToDevice(): a turn is 5 ms at 50 GB/s, a thousand times what starting and waiting costs.
constexpr int64_t kProbeTurnBytes = 256 * kMiB;
constexpr int kProbeTurns = 3;
// Beyond this the rate no longer depends on the size.
constexpr int64_t kMaxProbeCopyBytes = 64 * kMiB;
// Small pages would make a turn of many seconds: issuing one copy takes microseconds.
constexpr int64_t kMaxProbeCopies = 4096;

// Memory on both sides and a stream for each direction. Direction d uses region d of both memories.
class LinkProbe {
 public:
  static absl::StatusOr<std::unique_ptr<LinkProbe>> Create(Backend& backend, int num_regions,
                                                           int64_t host_region_bytes,
                                                           int64_t device_region_bytes) {
    auto probe =
        std::unique_ptr<LinkProbe>(new LinkProbe(backend, host_region_bytes, device_region_bytes));
    ASSIGN_OR_RETURN(probe->host_, Arena::Create("link_probe", num_regions * host_region_bytes));
    probe->host_data_ = static_cast<char*>(probe->host_->Allocate(num_regions * host_region_bytes));
    RETURN_IF_ERROR(probe->host_->Pin(backend, kPinThreads));
    ASSIGN_OR_RETURN(probe->device_,
                     backend.AllocateDevice("link_probe", num_regions * device_region_bytes));
    probe->streams_ = {backend.CreateStream(Lane::kHostToDevice),
                       backend.CreateStream(Lane::kDeviceToHost)};
    return probe;
  }

  // Bytes per second, in sum, of `num_copies` copies in each direction asked for.
  absl::StatusOr<double> Turn(bool h2d, bool d2h, int64_t copy_bytes, int64_t num_copies) {
    const Clock::time_point begin = Clock::now();
    for (int64_t i = 0; i < num_copies; ++i) {
      if (h2d) {
        RETURN_IF_ERROR(
            backend_.Copy(HostView(0, i, copy_bytes), DeviceView(0, i, copy_bytes), *streams_[0]));
      }
      if (d2h) {
        RETURN_IF_ERROR(
            backend_.Copy(DeviceView(1, i, copy_bytes), HostView(1, i, copy_bytes), *streams_[1]));
      }
    }
    if (h2d) RETURN_IF_ERROR(streams_[0]->Synchronize());
    if (d2h) RETURN_IF_ERROR(streams_[1]->Synchronize());
    const std::chrono::duration<double> elapsed = Clock::now() - begin;
    const int num_directions = (h2d ? 1 : 0) + (d2h ? 1 : 0);
    return num_directions * num_copies * copy_bytes / elapsed.count();
  }

 private:
  LinkProbe(Backend& backend, int64_t host_region_bytes, int64_t device_region_bytes)
      : backend_(backend),
        host_region_bytes_(host_region_bytes),
        device_region_bytes_(device_region_bytes) {}

  // Place of copy i in a region that holds a whole number of them or ends with an unused rest.
  static TensorView View(char* region, int64_t region_bytes, int64_t i, int64_t copy_bytes) {
    CHECK_LE(copy_bytes, region_bytes);
    return ByteView(region + i % (region_bytes / copy_bytes) * copy_bytes, copy_bytes);
  }
  TensorView HostView(int direction, int64_t i, int64_t copy_bytes) const {
    return View(host_data_ + direction * host_region_bytes_, host_region_bytes_, i, copy_bytes);
  }
  TensorView DeviceView(int direction, int64_t i, int64_t copy_bytes) const {
    return View(device_->data() + direction * device_region_bytes_, device_region_bytes_, i,
                copy_bytes);
  }

  Backend& backend_;
  const int64_t host_region_bytes_;
  const int64_t device_region_bytes_;
  std::unique_ptr<Arena> host_;
  char* host_data_ = nullptr;
  std::unique_ptr<DeviceBuffer> device_;
  std::array<std::unique_ptr<Stream>, 2> streams_;  // host to device, device to host
};

absl::StatusOr<Spread> MeasureCopies(LinkProbe& probe, bool h2d, bool d2h, int64_t copy_bytes,
                                     int64_t region_bytes, double turn_seconds) {
  const int64_t trial_copies =
      std::max<int64_t>(1, std::min(kTrialBytes, region_bytes) / copy_bytes);
  ASSIGN_OR_RETURN(const double trial, probe.Turn(h2d, d2h, copy_bytes, trial_copies));
  const double one_direction = trial / ((h2d ? 1 : 0) + (d2h ? 1 : 0));
  const int64_t num_copies =
      static_cast<int64_t>(turn_seconds * one_direction / static_cast<double>(copy_bytes)) + 1;
  // The first turn is of copies that the trial has not warmed the memory and the clock for.
  RETURN_IF_ERROR(probe.Turn(h2d, d2h, copy_bytes, num_copies).status());
  std::vector<double> rates;
  for (int turn = 0; turn < kMeasureTurns; ++turn) {
    ASSIGN_OR_RETURN(const double rate, probe.Turn(h2d, d2h, copy_bytes, num_copies));
    rates.push_back(rate);
  }
  return SpreadOf(std::move(rates));
}

absl::Status WarmUp(LinkProbe& probe, int64_t region_bytes, double seconds) {
  const int64_t copy_bytes = std::min(16 * kMiB, region_bytes);
  const int64_t num_copies = std::max<int64_t>(1, std::min(kTrialBytes, region_bytes) / copy_bytes);
  const Clock::time_point end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                   std::chrono::duration<double>(seconds));
  do {
    RETURN_IF_ERROR(probe.Turn(/*h2d=*/true, /*d2h=*/true, copy_bytes, num_copies).status());
  } while (Clock::now() < end);
  return absl::OkStatus();
}

// The largest region that leaves the device, or the part of it that the engine may use, half empty.
int64_t ChooseRegionBytes(const Backend& backend, int64_t gpu_memory_bytes) {
  int64_t room_bytes = backend.free_device_bytes();
  if (gpu_memory_bytes > 0) room_bytes = std::min(room_bytes, gpu_memory_bytes);
  int64_t region_bytes = kGiB;
  while (region_bytes > kMiB && 2 * region_bytes > room_bytes / 2) region_bytes /= 2;
  return region_bytes;
}

}  // namespace

absl::StatusOr<LinkRates> MeasureLink(Backend& backend, const LinkProbeSpec& spec,
                                      WidestSpread* widest) {
  const int64_t region_bytes =
      spec.region_bytes > 0 ? spec.region_bytes : ChooseRegionBytes(backend, spec.gpu_memory_bytes);
  ASSIGN_OR_RETURN(const std::unique_ptr<LinkProbe> probe,
                   LinkProbe::Create(backend, /*num_regions=*/2, region_bytes, region_bytes));
  RETURN_IF_ERROR(WarmUp(*probe, region_bytes, spec.warm_seconds));
  LinkRates rates;
  for (const int64_t copy_bytes : kCopySizes) {
    if (copy_bytes > region_bytes) break;
    LinkRates::Row row;
    row.copy_bytes = copy_bytes;
    struct Way {
      absl::string_view name;
      bool h2d;
      bool d2h;
      double* bytes_per_s;
    };
    for (const Way& way : {Way{"to the device", true, false, &row.h2d_bytes_per_s},
                           Way{"to the host", false, true, &row.d2h_bytes_per_s},
                           Way{"both ways", true, true, &row.both_bytes_per_s}}) {
      ASSIGN_OR_RETURN(const Spread spread, MeasureCopies(*probe, way.h2d, way.d2h, copy_bytes,
                                                          region_bytes, spec.turn_seconds));
      *way.bytes_per_s = spread.median;
      if (widest == nullptr) continue;
      widest->Add(absl::StrCat("copies of ", copy_bytes / kKiB, " KiB ", way.name), spread);
    }
    rates.rows.push_back(row);
  }
  return rates;
}

absl::StatusOr<Spread> MeasureCopyLatency(Backend& backend) {
  ASSIGN_OR_RETURN(const std::unique_ptr<LinkProbe> probe,
                   LinkProbe::Create(backend, /*num_regions=*/1, kLatencyBytes, kLatencyBytes));
  std::vector<double> seconds;
  for (int turn = 0; turn < kLatencyWarmTurns + kLatencyTurns; ++turn) {
    ASSIGN_OR_RETURN(const double rate, probe->Turn(/*h2d=*/true, /*d2h=*/false, kLatencyBytes, 1));
    if (turn >= kLatencyWarmTurns) seconds.push_back(kLatencyBytes / rate);
  }
  return SpreadOf(std::move(seconds));
}

absl::StatusOr<double> ProbeHostToDevice(Backend& backend, int64_t page_bytes) {
  CHECK_GT(page_bytes, 0);
  const int64_t copy_bytes = std::min(page_bytes, kMaxProbeCopyBytes);
  const int64_t num_copies = std::clamp<int64_t>(kProbeTurnBytes / copy_bytes, 1, kMaxProbeCopies);
  // The source is as large as a turn, so that it is read from memory and not from a cache.
  ASSIGN_OR_RETURN(const std::unique_ptr<LinkProbe> probe,
                   LinkProbe::Create(backend, /*num_regions=*/1, num_copies * copy_bytes,
                                     /*device_region_bytes=*/copy_bytes));
  double best = 0;
  for (int turn = 0; turn < kProbeTurns; ++turn) {
    ASSIGN_OR_RETURN(const double rate,
                     probe->Turn(/*h2d=*/true, /*d2h=*/false, copy_bytes, num_copies));
    best = std::max(best, rate);
  }
  return best;
}

absl::StatusOr<LinkRates> Engine::ProbeLink(const EngineOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                   CreateBackend(options.device, {.num_threads = 1, .isa = ""}));
  if (!backend->has_device_memory()) {
    return absl::FailedPreconditionError(
        absl::StrCat("this backend has no link: ", backend->description()));
  }
  LinkProbeSpec spec;
  spec.gpu_memory_bytes = options.gpu_memory_bytes;
  return MeasureLink(*backend, spec, /*widest=*/nullptr);
}

}  // namespace moelight
