#include "engine/link_probe.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/backend/byte_view.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/memory/arena.h"

namespace moelight {
namespace {

constexpr int64_t kKiB = int64_t{1} << 10;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

// From where issuing a copy costs as much as the copy to where it costs nothing.
constexpr int64_t kCopySizes[] = {256 * kKiB, kMiB, 4 * kMiB, 16 * kMiB, 64 * kMiB, kGiB};
// Bytes of one turn: 5 ms at 50 GB/s, a thousand times what starting and waiting costs.
constexpr int64_t kTurnBytes = 256 * kMiB;
constexpr int kMeasureTurns = 5;
// Making and pinning pages is the system's work; more threads than this only wait for each other.
constexpr int kPinThreads = 4;

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
    const auto begin = std::chrono::steady_clock::now();
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
    for (const std::unique_ptr<Stream>& stream : streams_) RETURN_IF_ERROR(stream->Synchronize());
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
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

absl::StatusOr<double> MedianRate(LinkProbe& probe, bool h2d, bool d2h, int64_t copy_bytes,
                                  int64_t num_copies) {
  // The first turn pays for what is set up on first use.
  RETURN_IF_ERROR(probe.Turn(h2d, d2h, copy_bytes, num_copies).status());
  std::array<double, kMeasureTurns> rates;
  for (double& rate : rates) {
    ASSIGN_OR_RETURN(rate, probe.Turn(h2d, d2h, copy_bytes, num_copies));
  }
  std::sort(rates.begin(), rates.end());
  return rates[kMeasureTurns / 2];
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

absl::StatusOr<LinkRates> MeasureLink(Backend& backend, int64_t region_bytes) {
  ASSIGN_OR_RETURN(const std::unique_ptr<LinkProbe> probe,
                   LinkProbe::Create(backend, /*num_regions=*/2, region_bytes, region_bytes));
  LinkRates rates;
  for (const int64_t copy_bytes : kCopySizes) {
    if (copy_bytes > region_bytes) break;
    const int64_t num_copies = std::max<int64_t>(1, kTurnBytes / copy_bytes);
    LinkRates::Row row;
    row.copy_bytes = copy_bytes;
    ASSIGN_OR_RETURN(row.h2d_bytes_per_s,
                     MedianRate(*probe, /*h2d=*/true, /*d2h=*/false, copy_bytes, num_copies));
    ASSIGN_OR_RETURN(row.d2h_bytes_per_s,
                     MedianRate(*probe, /*h2d=*/false, /*d2h=*/true, copy_bytes, num_copies));
    ASSIGN_OR_RETURN(row.both_bytes_per_s,
                     MedianRate(*probe, /*h2d=*/true, /*d2h=*/true, copy_bytes, num_copies));
    rates.rows.push_back(row);
  }
  return rates;
}

absl::StatusOr<double> ProbeHostToDevice(Backend& backend, int64_t page_bytes) {
  CHECK_GT(page_bytes, 0);
  const int64_t copy_bytes = std::min(page_bytes, kMaxProbeCopyBytes);
  const int64_t num_copies = std::clamp<int64_t>(kTurnBytes / copy_bytes, 1, kMaxProbeCopies);
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
  return MeasureLink(*backend, ChooseRegionBytes(*backend, options.gpu_memory_bytes));
}

}  // namespace moelight
