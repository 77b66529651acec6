// Exit codes, and how a Status becomes one together with a hint on what to do next.
//
// Threads: functions are pure.
#ifndef MOELIGHT_CLIENT_EXIT_CODE_H_
#define MOELIGHT_CLIENT_EXIT_CODE_H_

#include <string>

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

namespace moelight::client {

enum ExitCode : int {
  kDone = 0,
  kRowsFailed = 1,     // some rows or lines have an error instead of an answer
  kNotServing = 1,     // `health`: the server answers and takes no work
  kUsage = 2,          // wrong arguments, or a local file that cannot be read or written
  kUnreachable = 3,    // no server, or no answer in time
  kRefused = 4,        // the server said no
  kNotFound = 5,       // no such job
  kInterrupted = 130,  // Ctrl-C, as shells report it
};

// InvalidArgument for wrong arguments, told apart from the server's.
absl::Status UsageError(absl::string_view message);
// Marks an error of this machine's files; OK stays OK.
absl::Status LocalError(absl::Status status);
// Replaces the hint that HintFor gives.
absl::Status WithHint(absl::Status status, absl::string_view hint);

// REQUIRES: `status` is not OK.
ExitCode ExitCodeFor(const absl::Status& status);
// What to do next; empty if there is nothing to say. `server` is the address that was used.
std::string HintFor(const absl::Status& status, absl::string_view server);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_EXIT_CODE_H_
