// DaemonProcess: a real moelightd with the demo model on a free loopback port and its own store.
//
// Threads: one. Owns the process, which is killed with the object, and the temporary folder.
#ifndef MOELIGHT_TESTS_E2E_DAEMON_PROCESS_H_
#define MOELIGHT_TESTS_E2E_DAEMON_PROCESS_H_

#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "client/client.h"

namespace moelight {

class DaemonProcess {
 public:
  // `settings`: KEY=VALUE pairs that go before config.yaml.
  explicit DaemonProcess(std::vector<std::string> settings = {});
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  // Starts it (again), on the same port and store. Seconds until it answered a call.
  double Start();
  // Sends the signal and waits for the end; the status as of waitpid.
  int Stop(int signal);

  const std::string& address() const { return address_; }
  const std::string& folder() const { return folder_; }
  pid_t pid() const { return pid_; }
  std::unique_ptr<client::Client> Connect() const;

 private:
  std::vector<std::string> settings_;
  std::string folder_;  // removed at the end
  std::string address_;
  std::string admin_address_;
  pid_t pid_ = -1;
};

struct CommandResult {
  int exit_code = -1;
  std::string output;  // stdout and stderr together
};
// Runs a binary of this build to its end.
CommandResult RunCommand(const std::vector<std::string>& arguments);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_E2E_DAEMON_PROCESS_H_
