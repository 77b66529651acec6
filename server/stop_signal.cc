#include "server/stop_signal.h"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "engine/base/check.h"

namespace moelight {
namespace {

// Wakes the signal thread so that it can end; sent by the destructor alone.
constexpr int kWakeSignal = SIGUSR2;

constexpr int kExitCodeOfSecondSignal = 1;

}  // namespace

StopSignal::StopSignal(std::chrono::milliseconds limit, Logger& logger,
                       std::function<void()> on_signal)
    : limit_(limit), logger_(logger), on_signal_(std::move(on_signal)) {
  sigemptyset(&signals_);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, kWakeSignal}) sigaddset(&signals_, signal);
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &signals_, nullptr), 0);
  // A client that closes its connection must not end the daemon.
  std::signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([this]() { WatchSignals(); });
}

StopSignal::~StopSignal() {
  pthread_kill(thread_.native_handle(), kWakeSignal);
  thread_.join();
}

void StopSignal::WatchSignals() {
  int signal = SIGHUP;
  while (signal == SIGHUP) {
    CHECK_EQ(sigwait(&signals_, &signal), 0);
    if (signal == SIGHUP) {
      MutexLock lock(&mutex_);
      reload_ = true;
    }
    changed_.NotifyAll();
  }
  if (signal == kWakeSignal) return;
  logger_.Info("stopping", {{"signal", signal}});
  on_signal_();
  {
    MutexLock lock(&mutex_);
    grace_ = std::chrono::seconds(0);
    drained_ = true;
  }
  changed_.NotifyAll();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit_);
  const timespec timeout = {seconds.count(), std::chrono::nanoseconds(limit_ - seconds).count()};
  sigdelset(&signals_, SIGHUP);  // stays blocked and pending: there is nothing left to reload for
  signal = sigtimedwait(&signals_, nullptr, &timeout);
  while (signal == -1 && errno == EINTR) signal = sigtimedwait(&signals_, nullptr, &timeout);
  if (signal == kWakeSignal) return;
  const bool is_late = signal == -1;
  logger_.Warning("stopped_at_once", {{"reason", is_late ? "time limit" : "second signal"}});
  _exit(is_late ? EXIT_SUCCESS : kExitCodeOfSecondSignal);
}

void StopSignal::RequestDrain(std::chrono::seconds grace) {
  {
    MutexLock lock(&mutex_);
    if (!grace_.has_value()) grace_ = grace;
  }
  changed_.NotifyAll();
}

void StopSignal::NotifyDrained() {
  {
    MutexLock lock(&mutex_);
    drained_ = true;
  }
  changed_.NotifyAll();
}

std::optional<std::chrono::seconds> StopSignal::WaitForRequest() {
  MutexLock lock(&mutex_);
  changed_.Wait(lock, [this]() { return grace_.has_value() || reload_; });
  reload_ = false;
  return grace_;
}

void StopSignal::WaitForDrained(std::chrono::seconds grace) {
  MutexLock lock(&mutex_);
  changed_.WaitFor(lock, grace, [this]() { return drained_; });
}

}  // namespace moelight
