// The command line `moelight`: global options, the table of commands, errors and exit codes.
//
// Threads: Main blocks its thread. It reads no environment variable and installs no signal handler;
// main.cc does and hands the results in, so that tests can run commands in process.
#ifndef MOELIGHT_CLIENT_CLI_H_
#define MOELIGHT_CLIENT_CLI_H_

#include <istream>
#include <ostream>
#include <stop_token>
#include <string>
#include <vector>

namespace moelight::client {

// What a process has and a test replaces.
struct Environment {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal = false;
  int columns = 80;                       // of that terminal
  std::string default_server;             // MOELIGHT_SERVER; empty: the built-in default
  std::string default_admin_server = {};  // MOELIGHT_ADMIN_SERVER; the same
  std::string api_key = {};               // MOELIGHT_API_KEY
  std::stop_token stop;                   // Ctrl-C
};

// `args` without the program's name. Returns the exit code.
int Main(const std::vector<std::string>& args, Environment& environment);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_CLI_H_
