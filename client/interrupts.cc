#include "client/interrupts.h"

#include <poll.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "engine/base/check.h"

namespace moelight::client {

Interrupts::Interrupts() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  // Blocked everywhere: the listener reads them from a descriptor, so that no handler with its
  // global state is needed.
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &signals_, nullptr), 0);
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
  CHECK(wake_fd_ >= 0) << "eventfd";
  listener_ = std::thread([this]() { Listen(); });
}

Interrupts::~Interrupts() {
  CHECK_EQ(eventfd_write(wake_fd_, 1), 0);
  listener_.join();
  close(wake_fd_);
}

void Interrupts::Listen() {
  const int signal_fd = signalfd(-1, &signals_, SFD_CLOEXEC);
  CHECK(signal_fd >= 0) << "signalfd";
  pollfd events[] = {{signal_fd, POLLIN, 0}, {wake_fd_, POLLIN, 0}};
  while (poll(events, 2, -1) < 0) {
  }
  if ((events[0].revents & POLLIN) != 0) {
    signalfd_siginfo ignored;
    (void)!read(signal_fd, &ignored, sizeof(ignored));
    source_.request_stop();
    // From now on the signals have their default effect, in case stopping takes too long.
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr), 0);
    // This thread stays, because a signal goes to a thread that does not block it.
    while (poll(&events[1], 1, -1) < 0) {
    }
  }
  close(signal_fd);
}

}  // namespace moelight::client
