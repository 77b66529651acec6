#include "server/store/folder_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <sys/file.h>

namespace moelight {

absl::StatusOr<std::unique_ptr<FolderLock>> FolderLock::Acquire(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/lock");
  // Close-on-exec: a child process must not keep the lock alive after us.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": ", std::strerror(errno)));
  }
  std::unique_ptr<FolderLock> lock(new FolderLock(fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const ssize_t size = pread(fd, holder, sizeof(holder) - 1, 0);
    return absl::FailedPreconditionError(absl::StrCat(
        "the job store ", folder, " is in use by process ",
        size > 0 ? absl::StripSuffix(holder, "\n") : "unknown", "; store.path must differ"));
  }
  // Only a help for people, so a full disk must not matter here.
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) == 0 && pwrite(fd, pid.data(), pid.size(), 0) < 0) errno = 0;
  return lock;
}

FolderLock::~FolderLock() { close(fd_); }

}  // namespace moelight
