#include "server/crash_marker.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <vector>

#include <absl/strings/str_cat.h>
#include <sys/stat.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

constexpr char kMarkerName[] = "crashed";
constexpr std::array<int, 5> kSignals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
constexpr size_t kSignalStackBytes = 64 << 10;

// A signal handler gets no argument of ours, so what it needs must be static: the folder, open, and
// the actions that were there before.
std::atomic<int> g_folder_fd = -1;
std::array<struct sigaction, kSignals.size()> g_former_actions;

// Only calls that POSIX allows in a signal handler.
void WriteMarker(int folder_fd) {
  const int fd = openat(folder_fd, kMarkerName, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  // The write gives an old marker a new modification time, which is its identity.
  if (write(fd, "1\n", 2) > 0) fsync(fd);
  close(fd);
  fsync(folder_fd);
}

void OnFatalSignal(int signal_number) {
  const int folder_fd = g_folder_fd.load();
  if (folder_fd >= 0) WriteMarker(folder_fd);
  // The former action, usually a core dump, takes the signal when this handler returns.
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] == signal_number) sigaction(signal_number, &g_former_actions[i], nullptr);
  }
  raise(signal_number);
}

class SignalCrashMarker : public CrashMarker {
 public:
  explicit SignalCrashMarker(int folder_fd)
      : folder_fd_(folder_fd), signal_stack_(kSignalStackBytes) {
    int expected = -1;
    CHECK(g_folder_fd.compare_exchange_strong(expected, folder_fd)) << "installed twice";
    const stack_t stack = {signal_stack_.data(), 0, signal_stack_.size()};
    has_stack_ = sigaltstack(&stack, &former_stack_) == 0;
    struct sigaction action = {};
    action.sa_handler = OnFatalSignal;
    action.sa_flags = SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < kSignals.size(); ++i) {
      CHECK_EQ(sigaction(kSignals[i], &action, &g_former_actions[i]), 0);
    }
  }

  ~SignalCrashMarker() override {
    for (size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], &g_former_actions[i], nullptr);
    }
    if (has_stack_) sigaltstack(&former_stack_, nullptr);
    g_folder_fd = -1;
    close(folder_fd_);
  }

  void Write() const override { WriteMarker(folder_fd_); }

 private:
  const int folder_fd_;
  std::vector<char> signal_stack_;
  stack_t former_stack_ = {};
  bool has_stack_ = false;
};

absl::Status FileError(const std::string& path) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CrashMarker>> CrashMarker::Install(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(folder);
  return std::make_unique<SignalCrashMarker>(fd);
}

absl::StatusOr<int64_t> FindCrashMarker(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kMarkerName);
  struct stat info;
  if (stat(path.c_str(), &info) == 0) {
    return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  }
  if (errno == ENOENT) return 0;
  return FileError(path);
}

absl::Status RemoveCrashMarker(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kMarkerName);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return FileError(path);
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(folder);
  const bool synced = fsync(fd) == 0;
  const absl::Status status = synced ? absl::OkStatus() : FileError(folder);
  close(fd);
  return status;
}

}  // namespace moelight
