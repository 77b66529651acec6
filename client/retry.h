// RetryLoop: decides whether a failed call is tried again, and waits before the next attempt.
//
// Only UNAVAILABLE is retried: it alone says that the server was not reached or was going away, so
// that the same call may succeed a moment later. The waits grow exponentially with jitter, so that
// many clients do not come back in step after a restart; one outage is bounded in time.
//
// Threads: one thread per loop. Errors: see BeforeRetry.
#ifndef MOELIGHT_CLIENT_RETRY_H_
#define MOELIGHT_CLIENT_RETRY_H_

#include <functional>
#include <optional>
#include <stop_token>

#include <absl/random/random.h>
#include <absl/status/status.h>
#include <absl/time/time.h>

namespace moelight::client {

struct RetryOptions {
  // Before the server has answered once, it is more likely not running at all than restarting.
  absl::Duration first_contact_budget = absl::Seconds(3);
  absl::Duration budget = absl::Seconds(60);  // longest outage that is ridden out; 0: no retries
  absl::Duration initial_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(2);
};

class RetryLoop {
 public:
  // Waits for the duration or less; false if stopped.
  using WaitFunction = std::function<bool(absl::Duration, const std::stop_token&)>;

  // `budget` bounds one outage. `stop` ends a wait at once.
  RetryLoop(const RetryOptions& options, absl::Duration budget, std::stop_token stop,
            WaitFunction wait);

  // OK: it has waited, try again. Otherwise the error to report: `failure` itself if it is not
  // UNAVAILABLE, UNAVAILABLE naming the time spent when the budget is used up, Cancelled on stop.
  absl::Status BeforeRetry(const absl::Status& failure);

  // The server did something useful: the next failure starts a new outage.
  void NoteProgress();

 private:
  const RetryOptions options_;
  const absl::Duration budget_;
  const std::stop_token stop_;
  const WaitFunction wait_;
  absl::BitGen random_;
  std::optional<absl::Time> outage_start_;
  absl::Duration backoff_;
};

// Returns after `duration`, or as soon as `stop` is requested. False if stopped.
bool WaitUnlessStopped(absl::Duration duration, const std::stop_token& stop);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_RETRY_H_
