// FolderLock: keeps a second daemon out of a store's folder.
//
// Threads: any, one at a time. Owns: an open, flock()ed file named "lock" with our process id in
// it. The kernel drops the lock when the process dies, however it dies.
// Errors: FailedPrecondition naming the folder and the process that holds it.
#ifndef MOELIGHT_SERVER_STORE_FOLDER_LOCK_H_
#define MOELIGHT_SERVER_STORE_FOLDER_LOCK_H_

#include <memory>
#include <string>

#include <absl/status/statusor.h>

namespace moelight {

class FolderLock {
 public:
  static absl::StatusOr<std::unique_ptr<FolderLock>> Acquire(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_FOLDER_LOCK_H_
