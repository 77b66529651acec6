// Interrupts: turns the first SIGINT or SIGTERM into a stop request; the second ends the process.
//
// Threads: construct it on the main thread before any other thread starts, because threads inherit
// the signal mask. Owns: one thread.
#ifndef MOELIGHT_CLIENT_INTERRUPTS_H_
#define MOELIGHT_CLIENT_INTERRUPTS_H_

#include <signal.h>

#include <stop_token>
#include <thread>

namespace moelight::client {

class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  std::stop_token token() const { return source_.get_token(); }

 private:
  void Listen();

  std::stop_source source_;
  sigset_t signals_;
  int wake_fd_;  // written to end the thread
  std::thread listener_;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_INTERRUPTS_H_
