// CrashMarker: a file that tells the next start that this process crashed by its own doing.
//
// A row that crashes the process would crash it again after every restart. The job store therefore
// counts crashes against the rows that were in flight; but a kill from outside (SIGKILL, power cut)
// is no row's fault and must not count. So the marker is written by a handler of the signals that a
// process brings upon itself (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT), and by Write() before an
// exit because the device failed.
//
// Threads: Install and destruction from main; Write from any thread, also inside a signal handler.
// Owns: a descriptor of the folder and the five signal actions; destruction puts the former back.
// Limits: a stack overflow on a thread without an alternate signal stack cannot run the handler;
// Install gives one to the calling thread only.
// Errors: FailedPrecondition naming the folder. At most one marker at a time (CHECK).
#ifndef MOELIGHT_SERVER_CRASH_MARKER_H_
#define MOELIGHT_SERVER_CRASH_MARKER_H_

#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace moelight {

class CrashMarker {
 public:
  // `folder` is the job store's.
  static absl::StatusOr<std::unique_ptr<CrashMarker>> Install(const std::string& folder);
  virtual ~CrashMarker() = default;
  // Puts the marker on disk. Async-signal-safe; errors are of no use to anybody at that point.
  virtual void Write() const = 0;
};

// Identifies the marker in `folder`: not 0 and different for every crash; 0 if there is none.
absl::StatusOr<int64_t> FindCrashMarker(const std::string& folder);
// Durably. OK if there is none.
absl::Status RemoveCrashMarker(const std::string& folder);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CRASH_MARKER_H_
