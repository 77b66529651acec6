// The client `moelight`: takes what belongs to the process (arguments, environment, terminal,
// signals) and hands it to Main.
#include <stdlib.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include <grpc/support/log.h>
#include <sys/ioctl.h>

#include "client/cli.h"
#include "client/interrupts.h"

namespace {

int TerminalColumns() {
  winsize size = {};
  constexpr int kUsualColumns = 80;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                         : kUsualColumns;
}

// Of the environment; empty: it is not set.
std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  // What goes wrong is in the status that a call returns; gRPC's own lines would only break up the
  // progress bar.
  gpr_set_log_function([](gpr_log_func_args*) {});
  const moelight::client::Interrupts interrupts;
  moelight::client::Environment environment{
      .in = std::cin,
      .out = std::cout,
      .err = std::cerr,
      .err_is_terminal = isatty(STDERR_FILENO) == 1,
      .columns = TerminalColumns(),
      .default_server = Variable("MOELIGHT_SERVER"),
      .default_admin_server = Variable("MOELIGHT_ADMIN_SERVER"),
      .api_key = Variable("MOELIGHT_API_KEY"),
      .stop = interrupts.token()};
  const int code =
      moelight::client::Main(std::vector<std::string>(argv + 1, argv + argc), environment);
  std::cout.flush();
  return code;
}
