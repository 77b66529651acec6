#include "engine/gpu_probe/device_turns.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

constexpr int kLeastTurns = 3;
// A hundred times what fills a turn with ops of a microsecond: whoever wants more has no clock.
constexpr int64_t kMostCalls = 1'000'000;

struct TurnSeconds {
  double device = 0;
  double wall = 0;
};

absl::StatusOr<TurnSeconds> TakeTurn(int64_t num_calls, Stream& stream,
                                     const std::function<absl::Status()>& issue) {
  using Clock = std::chrono::steady_clock;
  stream.BeginStep(1);
  const Clock::time_point begin = Clock::now();
  stream.BeginTask(0);
  absl::Status status;
  for (int64_t i = 0; i < num_calls && status.ok(); ++i) status = issue();
  stream.EndTask(0);
  // Also after an error: what was issued before may still borrow the caller's spans.
  status.Update(stream.Synchronize());
  RETURN_IF_ERROR(status);
  const TaskTiming timing = stream.timing(0);
  return TurnSeconds{(timing.end_us - timing.begin_us) * 1e-6,
                     std::chrono::duration<double>(Clock::now() - begin).count()};
}

// How many calls fill a turn, found by turns that grow and warm the device.
absl::StatusOr<int64_t> CallsOfATurn(const DeviceTurnSpec& spec, Stream& stream,
                                     const std::function<absl::Status()>& issue) {
  int64_t num_calls = 1;
  double warm_seconds = 0;
  // The first call pays for what is set up on first use.
  RETURN_IF_ERROR(TakeTurn(1, stream, issue).status());
  for (;;) {
    ASSIGN_OR_RETURN(const TurnSeconds turn, TakeTurn(num_calls, stream, issue));
    warm_seconds += turn.wall;
    if (turn.device < spec.turn_seconds) {
      // A little more than is needed, but not on the word of one short turn.
      const double wanted = 1.1 * spec.turn_seconds / std::max(turn.device, 1e-9);
      num_calls = static_cast<int64_t>(
          std::ceil(static_cast<double>(num_calls) * std::clamp(wanted, 1.1, 8.0)));
      if (num_calls > kMostCalls) {
        return absl::InternalError(absl::StrCat("the device took ", turn.device, " s for ",
                                                num_calls, " calls: its clock stands still"));
      }
    } else if (warm_seconds >= spec.warm_seconds) {
      return num_calls;
    }
  }
}

}  // namespace

absl::StatusOr<DeviceTimes> MeasureOnDevice(const DeviceTurnSpec& spec, Stream& stream,
                                            const std::function<absl::Status()>& issue) {
  ASSIGN_OR_RETURN(const int64_t num_calls, CallsOfATurn(spec, stream, issue));
  std::vector<double> device, wall;
  double seconds = 0;
  for (int turn = 0; turn < spec.num_turns; ++turn) {
    if (turn >= kLeastTurns && seconds > spec.max_seconds) break;
    ASSIGN_OR_RETURN(const TurnSeconds taken, TakeTurn(num_calls, stream, issue));
    seconds += taken.wall;
    device.push_back(taken.device / static_cast<double>(num_calls));
    wall.push_back(taken.wall / static_cast<double>(num_calls));
  }
  return DeviceTimes{SpreadOf(std::move(device)), SpreadOf(std::move(wall))};
}

}  // namespace moelight
