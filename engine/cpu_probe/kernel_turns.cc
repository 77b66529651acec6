#include "engine/cpu_probe/kernel_turns.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/cpu_probe/turns.h"

namespace moelight {
namespace {

constexpr int kTurns = 7;
// Of calls that take longer than kLongSeconds each; they even out by themselves what turns do.
constexpr int kLongTurns = 3;
constexpr double kLongSeconds = 0.2;

}  // namespace

absl::StatusOr<KernelRate> MeasureInTurns(const ProbedCall& call, double turn_seconds,
                                          CpuRoofs& roofs, CopyLoad* copies) {
  absl::Status status;
  const auto run = [&] { status.Update(call.run()); };
  // The first call makes the pages of its scratch.
  const int num_turns = SecondsPerCall(0, run) > kLongSeconds ? kLongTurns : kTurns;
  std::vector<double> seconds, reads, peaks, shares, seconds_beside, copies_alone, copies_beside;
  const auto measure_roofs = [&] {
    reads.push_back(roofs.ReadBytesPerSecond());
    peaks.push_back(roofs.PeakFlopsPerSecond());
  };
  measure_roofs();
  for (int turn = 0; turn < num_turns; ++turn) {
    seconds.push_back(SecondsPerCall(turn_seconds, run));
    RETURN_IF_ERROR(status);
    measure_roofs();
    // A kernel's turn stands between two of each roof. The better of them counts: a neighbour who
    // came for a short while lowers what was reached, not what could have been.
    const double read = std::max(reads[turn], reads[turn + 1]);
    const double peak = std::max(peaks[turn], peaks[turn + 1]);
    const double roof_seconds =
        std::max(static_cast<double>(call.bytes) / read, static_cast<double>(call.flops) / peak);
    shares.push_back(roof_seconds / seconds.back());
    if (copies == nullptr) continue;
    ASSIGN_OR_RETURN(const double alone, copies->Alone(turn_seconds));
    copies_alone.push_back(alone);
    ASSIGN_OR_RETURN(const double beside, copies->Beside([&] {
      seconds_beside.push_back(SecondsPerCall(turn_seconds, run));
      return status;
    }));
    copies_beside.push_back(beside);
  }
  KernelRate rate;
  rate.isa = std::string(roofs.isa().name);
  rate.bytes = call.bytes;
  rate.flops = call.flops;
  rate.seconds = SpreadOf(seconds);
  rate.read_bytes_per_s = SpreadOf(reads);
  rate.peak_flops_per_s = SpreadOf(peaks);
  rate.roof_share = SpreadOf(shares);
  if (copies != nullptr) {
    rate.beside_copy = {SpreadOf(seconds_beside), SpreadOf(copies_alone), SpreadOf(copies_beside)};
  }
  return rate;
}

absl::StatusOr<std::vector<ProbedBackend>> CreateProbedBackends(const CpuProbeOptions& options,
                                                                const OpLimits& limits,
                                                                const std::string& kv_format) {
  // The one that is named, or the reason why there is none.
  RETURN_IF_ERROR(ChooseCpuIsa(options.isa).status());
  std::vector<ProbedBackend> probed;
  for (const CpuIsa& isa : CpuIsas()) {
    if (options.isa.empty() ? !isa.supported() : isa.name != options.isa) continue;
    BackendOptions backend_options;
    backend_options.num_threads = options.threads.num_threads;
    backend_options.pin_threads = options.threads.pin;
    backend_options.isa = std::string(isa.name);
    backend_options.kv_format = kv_format;
    ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, CreateBackend("cpu", backend_options));
    RETURN_IF_ERROR(backend->Reserve(limits));
    probed.push_back({&isa, std::move(backend)});
  }
  return probed;
}

}  // namespace moelight
