#include "client/retry.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "engine/base/mutex.h"

namespace moelight::client {

bool WaitUnlessStopped(absl::Duration duration, const std::stop_token& stop) {
  Mutex mutex;
  CondVar stopped;
  std::stop_callback wake(stop, [&mutex, &stopped]() {
    // The empty critical section orders this after the waiter's check of the predicate.
    { MutexLock lock(&mutex); }
    stopped.NotifyAll();
  });
  MutexLock lock(&mutex);
  return !stopped.WaitFor(lock, absl::ToChronoNanoseconds(duration),
                          [&stop]() { return stop.stop_requested(); });
}

RetryLoop::RetryLoop(const RetryOptions& options, absl::Duration budget, std::stop_token stop,
                     WaitFunction wait)
    : options_(options),
      budget_(budget),
      stop_(std::move(stop)),
      wait_(std::move(wait)),
      backoff_(options.initial_backoff) {}

absl::Status RetryLoop::BeforeRetry(const absl::Status& failure) {
  // A stop cancels the call in flight, whose status then says so in gRPC's words, not in ours.
  if (stop_.stop_requested()) return absl::CancelledError("interrupted");
  if (!absl::IsUnavailable(failure)) return failure;
  const absl::Time now = absl::Now();
  if (!outage_start_.has_value()) outage_start_ = now;
  const absl::Duration left = *outage_start_ + budget_ - now;
  if (left <= absl::ZeroDuration()) {
    if (budget_ <= absl::ZeroDuration()) return failure;
    return absl::UnavailableError(
        absl::StrCat(failure.message(), " (tried for ", absl::FormatDuration(budget_), ")"));
  }
  const absl::Duration wait = std::min(left, backoff_ * absl::Uniform(random_, 0.5, 1.5));
  backoff_ = std::min(backoff_ * 2, options_.max_backoff);
  if (!wait_(wait, stop_)) return absl::CancelledError("interrupted");
  return absl::OkStatus();
}

void RetryLoop::NoteProgress() {
  outage_start_.reset();
  backoff_ = options_.initial_backoff;
}

}  // namespace moelight::client
