#include "client/interrupts.h"

#include <poll.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "engine/base/check.h"

namespace moelight::client {

Interrupts::Interrupts(std::chrono::milliseconds grace) : grace_(grace) {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  // Blocked everywhere: the listener reads them from a descriptor, so that no handler with its
  // global state is needed.
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &signals_, &old_mask_), 0);
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
  CHECK(wake_fd_ >= 0) << "eventfd";
  listener_ = std::thread([this]() { Listen(); });
}

Interrupts::~Interrupts() {
  CHECK_EQ(eventfd_write(wake_fd_, 1), 0);
  listener_.join();
  close(wake_fd_);
  CHECK_EQ(pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr), 0);
}

void Interrupts::Listen() {
  const int signal_fd = signalfd(-1, &signals_, SFD_CLOEXEC);
  CHECK(signal_fd >= 0) << "signalfd";
  std::chrono::steady_clock::time_point first;
  while (true) {
    pollfd events[] = {{signal_fd, POLLIN, 0}, {wake_fd_, POLLIN, 0}};
    if (poll(events, 2, -1) < 0) continue;  // EINTR
    if (events[1].revents != 0) break;
    signalfd_siginfo info;
    if (read(signal_fd, &info, sizeof(info)) != sizeof(info)) continue;
    const auto now = std::chrono::steady_clock::now();
    if (!source_.stop_requested()) {
      first = now;
      source_.request_stop();
    } else if (now - first >= grace_) {
      // Stopping takes too long: the signal gets its default effect, even where a shell had it
      // ignored for a background job.
      signal(static_cast<int>(info.ssi_signo), SIG_DFL);
      CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr), 0);
      raise(static_cast<int>(info.ssi_signo));
    }
  }
  close(signal_fd);
}

}  // namespace moelight::client
