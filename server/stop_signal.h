// StopSignal: how the daemon learns that it is to stop, and by when it must have, or that it is to
// read its configuration again (SIGHUP).
//
// SIGTERM or SIGINT, once: stop in good order. Twice: exit at once. If the orderly stop takes
// longer than the limit, the process exits all the same; what was acknowledged is on disk by then.
//
// Threads: one of its own, which waits for signals; no code runs in signal handlers. Construct it
// before any other thread, because threads inherit the blocked signals. Request is thread-safe.
#ifndef MOELIGHT_SERVER_STOP_SIGNAL_H_
#define MOELIGHT_SERVER_STOP_SIGNAL_H_

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <optional>
#include <thread>

#include "engine/base/logger.h"
#include "engine/base/mutex.h"

namespace moelight {

class StopSignal {
 public:
  // `on_signal` is called on the signal thread at the first signal.
  StopSignal(std::chrono::milliseconds limit, Logger& logger, std::function<void()> on_signal);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // From the Drain RPC. A signal overrides the grace.
  void RequestDrain(std::chrono::seconds grace);
  // Ends WaitForStop before the grace is over: nothing is running any more.
  void NotifyDrained();

  // Blocks until a stop is asked for, with the grace that running work has (0 for none), or a
  // reload: nothing. Several SIGHUP may be one reload. A stop goes first.
  std::optional<std::chrono::seconds> WaitForRequest();
  // Blocks until the grace has passed, NotifyDrained or a signal.
  void WaitForDrained(std::chrono::seconds grace);

 private:
  void WatchSignals();

  const std::chrono::milliseconds limit_;
  Logger& logger_;
  const std::function<void()> on_signal_;
  sigset_t signals_;

  Mutex mutex_;
  CondVar changed_;
  std::optional<std::chrono::seconds> grace_ ABSL_GUARDED_BY(mutex_);  // set: a stop was asked for
  bool reload_ ABSL_GUARDED_BY(mutex_) = false;
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;  // or a signal came, which ends the grace
  std::thread thread_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STOP_SIGNAL_H_
