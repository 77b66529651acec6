// Interrupts: turns the first SIGINT or SIGTERM into a stop request; the second ends the process.
//
// Threads: construct it on the main thread before any other thread starts, because threads inherit
// the signal mask. Owns: one thread.
#ifndef MOELIGHT_CLIENT_INTERRUPTS_H_
#define MOELIGHT_CLIENT_INTERRUPTS_H_

#include <signal.h>

#include <chrono>
#include <stop_token>
#include <thread>

namespace moelight::client {

class Interrupts {
 public:
  // Programs such as timeout(1) send a signal twice in a row; within `grace` that counts as one.
  explicit Interrupts(std::chrono::milliseconds grace = std::chrono::seconds(1));
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  std::stop_token token() const { return source_.get_token(); }

 private:
  void Listen();

  const std::chrono::milliseconds grace_;
  std::stop_source source_;
  sigset_t signals_;
  sigset_t old_mask_;
  int wake_fd_;  // written to end the thread
  std::thread listener_;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_INTERRUPTS_H_
